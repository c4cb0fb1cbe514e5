"""Make the buckets that aren't there yet: buckets.py NAME.. with an administrator's AWS_ variables."""

import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

WAIT_S = 300


def main() -> None:
    """Wait for the server, then make each bucket."""
    client = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=Config(s3={"addressing_style": "path"})
    )
    end = time.monotonic() + WAIT_S
    while True:
        try:
            present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            break
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > end:
                sys.exit(f"buckets: {error}")
            time.sleep(5)
    for name in sys.argv[1:]:
        if name not in present:
            client.create_bucket(Bucket=name)
        sys.stdout.write(f"{name}: {'there' if name in present else 'made'}\n")


if __name__ == "__main__":
    main()
