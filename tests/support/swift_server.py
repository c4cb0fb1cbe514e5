"""OpenStack Swift with its S3 API in an empty folder: `python3 swift_server.py FOLDER`.

Prints its port, then serves until standard input ends. `remote_servers.swift_server` runs it with the Python that has
swift, so it imports nothing of the project. Objects stay in memory. tempauth wants a memcached, which needn't answer.
"""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path
from typing import Any

import eventlet
import eventlet.tpool
import eventlet.wsgi
from swift.common import utils, wsgi
from swift.common.ring.ring import RingData
from swift.common.storage_policy import reload_storage_policies

DEVICE = "disk"
SWIFT = """
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
"""
STORAGE = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}
mount_check = false
[app:main]
use = egg:swift#{app}
"""
PROXY = """
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = cache s3api tempauth slo proxy-server
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_cells_owner = owners-secret .admin
user_cells_stranger = strangers-secret
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def start(folder: Path, name: str, config: str, app: str = "") -> int:
    """Serve one of Swift's servers on a free port; returns the port."""
    path = folder / f"{name}-server.conf"
    path.write_text(config.format(folder=folder, app=app))
    application = with_length(wsgi.loadapp(str(path)))
    listener = eventlet.listen(("127.0.0.1", 0))
    log: Any = utils.NullLogger()
    eventlet.spawn(eventlet.wsgi.server, listener, application, log, protocol=wsgi.SwiftHttpProtocol)
    return int(listener.getsockname()[1])


def with_length(application: Any) -> Any:
    """Name a length in answers to HEAD: eventlet ends one without it by a chunk, where the next answer should begin."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            known = {name.lower() for name, _ in headers}
            if environ["REQUEST_METHOD"] == "HEAD" and "content-length" not in known:
                headers = [*headers, ("Content-Length", "0")]
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return answer


def main(folder: Path) -> None:
    """Start the account, container and object servers, a ring for each, and the proxy before them."""
    os.chdir(folder)  # rings are written by way of the working folder
    (folder / DEVICE).mkdir()
    (folder / "swift.conf").write_text(SWIFT)
    utils.eventlet_monkey_patch()
    utils.set_swift_dir(str(folder))
    reload_storage_policies()
    for name, app in (("account", "account"), ("container", "container"), ("object", "mem_object")):
        port = start(folder, name, STORAGE, app)
        where = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
        device = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": DEVICE, **where}
        RingData([array("H", [0])], [device], 32).save(f"{name}.ring.gz")  # one copy, one partition
    sys.stdout.write(f"{start(folder, 'proxy', PROXY)}\n")
    sys.stdout.flush()
    eventlet.tpool.execute(sys.stdin.read)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
