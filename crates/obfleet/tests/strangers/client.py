"""A client of obfleet that was written from docs/api.md, and knows nothing else: Python's own library, requests signed with
an access key. It makes a cluster, uploads a package, upgrades, changes a parameter and deletes it all, and says of each step
what it was told, one line of JSON each.

    client.py URL OLD.rpm NEW.rpm HOST,HOST… SQL_PORT EXPORTER_PORT ROOT_SERVER

The key is in OBFLEET_ACCESS_KEY and OBFLEET_SECRET_KEY.
"""

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import secrets
import sys
import time
import urllib.parse

PATIENCE_S = 180


class Refused(Exception):
    def __init__(self, status, error):
        super().__init__(f"{status} {error.get('debugMessage')}: {error.get('message')}")
        self.status, self.error = status, error


class Server:
    def __init__(self, url, access_key, secret_key):
        self.url = urllib.parse.urlsplit(url)
        self.access_key, self.secret_key = access_key, secret_key

    def authorization(self, method, target, body, content_type, date, headers):
        extra = sorted((name.lower(), value) for name, value in headers.items() if name.lower().startswith("x-ocp-"))
        text = "\n".join([
            method,
            hashlib.md5(body).hexdigest().upper() if body else "",
            content_type,
            date,
            self.url.netloc,
            "\n".join(f"{name}:{value}" for name, value in extra),
            target,
        ])
        mac = hmac.new(self.secret_key.encode(), text.encode(), hashlib.sha1).digest()
        return f"OCP-ACCESS-KEY-HMACSHA1 {self.access_key}:{base64.b64encode(mac).decode()}"

    def send(self, method, path, query=None, body=b"", content_type="application/json", headers=None):
        """`data` of the answer."""
        pairs = sorted((query or {}).items())
        quoted = "&".join(f"{quote(name)}={quote(str(value))}" for name, value in pairs)
        target = f"{path}?{quoted}" if quoted else path
        date = email.utils.formatdate(usegmt=True)
        headers = {"x-ocp-nonce": secrets.token_hex(8), **(headers or {})}
        authorization = self.authorization(method, target, body, content_type, date, headers)
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        try:
            connection.request(method, target, body or None, {
                "Authorization": authorization, "Content-Type": content_type, "Date": date, **headers,
            })
            envelope = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if not envelope["successful"]:
            raise Refused(envelope["status"], envelope["error"])
        return envelope.get("data")

    def get(self, path, **query):
        return self.send("GET", path, query)

    def order(self, method, path, body=None, headers=None):
        return self.send(method, path, body=json.dumps(body).encode() if body is not None else b"", headers=headers)

    def upload(self, file):
        boundary = secrets.token_hex(16)
        with open(file, "rb") as content:
            body = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{os.path.basename(file)}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            ).encode() + content.read() + f"\r\n--{boundary}--\r\n".encode()
        return self.send(
            "POST", "/api/v2/software-packages", body=body, content_type=f"multipart/form-data; boundary={boundary}"
        )

    def wait(self, task):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            shown = self.get(f"/api/v2/tasks/instances/{task}")
            if shown["status"] == "SUCCESSFUL":
                return shown
            if shown["status"] == "FAILED" or time.monotonic() > deadline:
                failures = [step["failure"] for step in shown["subtasks"] if "failure" in step]
                sys.exit(f"task {task}, {shown['name']}, is {shown['status']}: {failures}")
            time.sleep(0.2)


def quote(text):
    return urllib.parse.quote(text, safe="-._~")


def tell(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


def main():
    url, old, new, hosts, sql_port, exporter_port, root_server = sys.argv[1:]
    server = Server(url, os.environ["OBFLEET_ACCESS_KEY"], os.environ["OBFLEET_SECRET_KEY"])
    server.upload(old)
    clusters = "/api/v2/obproxy/clusters"
    body = {
        "name": "python", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST",
        "obproxyInstallParam": {
            "hostIds": [int(host) for host in hosts.split(",")], "sqlPort": int(sql_port),
            "exporterPort": int(exporter_port), "version": os.path.basename(old),
        },
        "obLinks": [{"clusterName": "lab", "username": "proxyro", "rootServers": [root_server]}],
    }
    token = {"Idempotency-Key": secrets.token_hex(8)}
    created = server.order("POST", clusters, body, token)
    again = server.order("POST", clusters, body, token)
    cluster = created["obproxyClusterId"]
    server.wait(created["id"])
    shown = server.get(f"{clusters}/{cluster}")
    proxies = sorted(proxy["id"] for proxy in shown["obproxies"])
    tell("create", once=again["id"] == created["id"], proxies=proxies, status=shown["status"], versions=shown["versions"])

    package = server.upload(new)
    try:
        server.upload(new)
    except Refused as refused:
        tell("upload", package=package["fileName"], again=refused.error["debugMessage"])

    ids = ",".join(map(str, proxies))
    name = f"{package['name']}-{package['version']}-{package['buildNumber']}"
    upgrade = server.order("POST", f"{clusters}/{cluster}/obproxies/{ids}/upgrade", {"shortRpmName": name})
    try:
        server.order("DELETE", f"{clusters}/{cluster}")
    except Refused as refused:
        in_the_way = refused.error["target"]["taskId"] == upgrade["id"]
    done = server.wait(upgrade["id"])
    step = next(step for step in done["subtasks"] if step["name"] == "Hot restart obproxy")
    log = server.get(f"/api/v2/tasks/instances/{upgrade['id']}/subtasks/{step['id']}/log")["log"]
    shown = server.get(f"{clusters}/{cluster}")
    tell("upgrade", in_the_way=in_the_way, logged=bool(log), versions=shown["versions"])

    values = {"parameters": [{"name": "syslog_level", "value": "WARN"}]}
    server.wait(server.order("PUT", f"{clusters}/{cluster}/parameters", values)["id"])
    history = server.get(f"{clusters}/{cluster}/parameters/history", name="syslog_level", size=1, page=1)
    tell("parameters", after=history["contents"][0]["valueAfter"])

    server.wait(server.order("DELETE", f"{clusters}/{cluster}")["id"])
    try:
        server.get(f"{clusters}/{cluster}")
    except Refused as refused:
        tell("delete", status=refused.status)


main()
