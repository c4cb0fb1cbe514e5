"""What a comparison of candidates is made of: paired statistics, drawings, and images side by side."""
