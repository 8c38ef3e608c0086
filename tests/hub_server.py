"""A server on loopback that speaks as much of the Hub's protocol as the tests need."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories of a server, and what it was asked.

    repositories: By name, the commits (commit -> files by path) and the references (branch or tag
        -> commit).
    asked: (method, path) of each request.
    large: Paths that are sent as large files, apart from the commit, as the Hub wants binary files.
    refusal: The status of every answer to a writing request, if there is one.
    """

    def __init__(self):
        self.repositories, self.asked, self.private = {}, [], set()
        self.large, self.blobs, self.refusal = {"optimizer.npz"}, {}, None
        self.url = ""

    def create(self, name):
        self.repositories[name] = ({}, {})
        return self.commit(name, {".gitattributes": b""})

    def commit(self, name, files, branch="main"):
        """Adds a commit to a branch; returns its name."""
        commits, references = self.repositories[name]
        all_ = {**commits.get(references.get(branch), {}), **files}
        oid = hashlib.sha1(repr((len(commits), sorted(all_.items()))).encode()).hexdigest()
        commits[oid] = all_
        references[branch] = oid
        return oid

    def files(self, name, revision="main"):
        """Returns the commit and the files of a revision; None if there is no such one."""
        commits, references = self.repositories[name]
        oid = references.get(revision, revision)
        return (oid, commits[oid]) if oid in commits else None

    def downloaded(self):
        """Returns the paths of the files whose content was sent."""
        return [path.split("/resolve/")[1] for how, path in self.asked if how == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status, content=b"", **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, what):
        # As the Hub does for those who have not logged in.
        self.answer(401 if what == "Repo" else 404, X_Error_Code=f"{what}NotFound")

    def handle_any(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        for method, pattern, act in ROUTES:
            if self.command in method.split() and (found := re.fullmatch(pattern, path)):
                if self.command in ("POST", "PUT") and self.hub.refusal:
                    self.answer(self.hub.refusal, {"error": "You have no right to do that"})
                else:
                    act(self, body, **found.groupdict())
                return
        self.answer(404, {"error": f"the test's server does not know {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def resolve(self, body, name, revision, file):
        if name not in self.hub.repositories:
            self.missing("Repo")
        elif (found := self.hub.files(name, revision)) is None:
            self.missing("Revision")
        elif file not in found[1]:
            self.missing("Entry")
        else:
            oid, files = found
            etag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
            self.answer(200, files[file], X_Repo_Commit=oid, ETag=etag, Accept_Ranges="bytes")

    def info(self, body, name, revision="main"):
        if name not in self.hub.repositories:
            self.missing("Repo")
        elif (found := self.hub.files(name, revision)) is None:
            self.missing("Revision")
        else:
            siblings = [{"rfilename": path} for path in found[1]]
            self.answer(200, {"id": name, "sha": found[0], "siblings": siblings, "tags": []})

    def create(self, body):
        given = json.loads(body)
        name = f"{given.get('organization') or 'user'}/{given['name'].rpartition('/')[2]}"
        if name in self.hub.repositories:
            self.answer(409, {"error": "You already created this", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.create(name)
        if given.get("private") or given.get("visibility") == "private":
            self.hub.private.add(name)
        self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def preupload(self, body, name, revision):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"] in self.hub.large else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def large_files(self, body, name):
        objects = [
            {
                **{key: one[key] for key in ("oid", "size")},
                "authenticated": True,
                "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}},
            }
            for one in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        self.answer(200)

    def commit(self, body, name, revision):
        if name not in self.hub.repositories:
            self.missing("Repo")
            return
        files = {}
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        oid = self.hub.commit(name, files, revision)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def metadata(self, body):
        self.answer(200, {"errors": [], "warnings": []})


NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES = [
    ("GET HEAD", rf"/{NAME}/resolve/(?P<revision>.+)/(?P<file>[^/]+)", Handler.resolve),
    ("GET", rf"/api/models/{NAME}", Handler.info),
    ("GET", rf"/api/models/{NAME}/revision/(?P<revision>.+)", Handler.info),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", rf"/api/models/{NAME}/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.large_files),
    ("PUT", r"/large/(?P<oid>\w+)", Handler.store),
    ("POST", rf"/api/models/{NAME}/commit/(?P<revision>.+)", Handler.commit),
    ("POST", "/api/validate-yaml", Handler.metadata),
]


@contextmanager
def serving():
    """Yields a `Hub` that is served on a free port of loopback, at its `url`."""
    hub = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield hub
        server.shutdown()
