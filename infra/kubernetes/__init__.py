"""The manifests, and the tool that renders and checks them."""
