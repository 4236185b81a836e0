"""Shows what the real sora-sdk receives of a plan: the text by `on_push`, then the close of its connection.

By hand, since the SDK is a download:

    pip install sora-sdk aiohttp aiortc
    python daemon/tests/daemon/plans/sora_sdk.py target/debug/soramoded target/debug/soramode

A stand-in for Sora passes on what soramoded has it do: its signaling accepts the SDK after the auth webhook, and sets up a real peer
connection with it; its API has PushChannel, DisconnectChannel and ListConnections.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import aiohttp
import sora_sdk
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription

CHANNEL = "第一会議室"
TEXT = "あと{minutes}分で終了します"
SORA, API, SIGNALING = (f"127.0.0.1:{port}" for port in (23501, 23502, 23503))

began = time.monotonic()


def say(words):
    print(f"{time.monotonic() - began:7.3f} s  {words}", flush=True)


class Standin:
    """A Sora with one client a channel."""

    def __init__(self):
        self.sockets = {}
        self.session_id = str(uuid.uuid4())

    async def webhook(self, kind, body, headers=None):
        async with aiohttp.ClientSession() as client:
            answer = await client.post(f"http://{SORA}/sora/{kind}", json=body, headers=headers)
            return await answer.json(content_type=None) if kind == "auth" else None

    def event(self, event_type, connection_id, data):
        now = time.time()
        return {
            "type": event_type, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(now)), "id": str(uuid.uuid4()),
            "version": "2024.2.0", "label": "WebRTC SFU Sora", "node_name": "sora@127.0.0.1", "role": "recvonly", "channel_id": CHANNEL,
            "session_id": self.session_id, "client_id": connection_id, "bundle_id": connection_id, "connection_id": connection_id,
            "multistream": True, "simulcast": False, "spotlight": False,
            "data": {"created_time": int(now), "channel_connections": 1, **data},
        }

    async def signaling(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection_id = str(uuid.uuid4())
        peer = RTCPeerConnection()
        async for message in socket:
            message = json.loads(message.data)
            say(f"signaling: the SDK sends {message['type']}")
            if message["type"] == "connect":
                admitted = await self.webhook(
                    "auth",
                    {**self.event("auth", connection_id, {}), "channel_id": message["channel_id"], "channel_connections": 0},
                    {"sora-connection-id": connection_id},
                )
                if not admitted["allowed"]:
                    await socket.close(code=4490, message=admitted["reason"].encode())
                    break
                peer.addTransceiver("audio", direction="sendonly")
                await peer.setLocalDescription(await peer.createOffer())
                self.sockets[message["channel_id"]] = socket
                await socket.send_json({
                    "type": "offer", "sdp": peer.localDescription.sdp, "client_id": connection_id, "connection_id": connection_id,
                    "bundle_id": connection_id, "session_id": self.session_id, "channel_id": message["channel_id"],
                    "multistream": True, "mid": {"audio": "0"}, "config": {"iceServers": [], "iceTransportPolicy": "all"},
                    "version": "2024.2.0",
                })
            elif message["type"] == "answer":
                await peer.setRemoteDescription(RTCSessionDescription(message["sdp"], "answer"))
                await self.webhook("event", self.event("connection.created", connection_id, {}))
                await socket.send_json({
                    "type": "notify", "event_type": "connection.created", "role": "recvonly", "client_id": connection_id,
                    "connection_id": connection_id, "session_id": self.session_id, "channel_connections": 1,
                })
        self.sockets.pop(CHANNEL, None)
        say(f"signaling: peer connection {peer.connectionState}")
        await self.webhook("event", self.event("connection.destroyed", connection_id, {"reason": {"type": "DISCONNECT-API"}}))
        await peer.close()
        return socket

    async def api(self, request):
        target = request.headers["x-sora-target"].split(".")[-1]
        body = json.loads(await request.text() or "{}")
        if target == "ListConnections":
            return web.json_response([])
        socket = self.sockets.get(body.get("channel_id"))
        say(f"API: {target} {json.dumps(body, ensure_ascii=False)}")
        if socket is None:
            return web.json_response({"error_type": "CHANNEL-NOT-FOUND"}, status=400)
        if target == "PushChannel":
            await socket.send_json({"type": "push", "data": body["data"]})
        elif target == "DisconnectChannel":
            asyncio.ensure_future(socket.close(code=1000, message=b"DISCONNECTED-API"))
        return web.json_response({})

    async def serve(self):
        for address, route in (
            (SIGNALING, web.get("/signaling", self.signaling)),
            (API, web.post("/", self.api)),
        ):
            application = web.Application()
            application.add_routes([route])
            runner = web.AppRunner(application)
            await runner.setup()
            host, port = address.split(":")
            await web.TCPSite(runner, host, int(port)).start()


def start_standin():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(Standin().serve(), loop).result(10)


def connect(ends):
    """Connects the SDK; what it reports goes to `ends`, in order."""
    connected = threading.Event()

    def note(kind, value):
        say(f"SDK: {kind} {value}")
        ends.append((kind, value))

    def notify(text):
        if json.loads(text)["event_type"] == "connection.created":
            connected.set()

    sora = sora_sdk.Sora(openh264=None)
    connection = sora.create_connection(
        signaling_urls=[f"ws://{SIGNALING}/signaling"], role="recvonly", channel_id=CHANNEL, audio=True, video=False,
    )
    connection.on_push = lambda text: note("on_push", text)
    connection.on_notify = notify
    connection.on_ws_close = lambda code, reason: note("on_ws_close", f"{code} {reason}")
    connection.on_disconnect = lambda code, reason: (note("on_disconnect", f"{code} {reason}"), ended.set())
    ended = threading.Event()
    connection.connect()
    assert connected.wait(20), "the SDK did not connect"
    return sora, connection, ended


def main(soramoded, soramode):
    start_standin()
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/soramode.sock"
        daemon = subprocess.Popen(
            [soramoded, "--ephemeral", "--socket", socket, "--sora-listen", SORA, "--sora-api", f"http://{API}/"],
            stderr=subprocess.PIPE, text=True,
        )
        try:
            while " ready " not in daemon.stderr.readline():
                assert daemon.poll() is None, "soramoded ended"
            ends = []
            sora, connection, ended = connect(ends)
            drain = [soramode, "--socket", socket, "drain", "--announce", "1s", "--announce-text", TEXT, "--end-after", "2s"]
            subprocess.run([*drain, "--accept-risk=cuts-clients"], check=True)
            assert ended.wait(20), "the SDK was not disconnected"
            pushes = [json.loads(value) for kind, value in ends if kind == "on_push"]
            assert [push["data"]["text"] for push in pushes] == ["あと1分で終了します"], pushes
            assert ends[0][0] == "on_push" and ends[-1][0] == "on_disconnect", ends
            say("the SDK was told before it was cut")
        finally:
            daemon.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
