import asyncio
import contextlib

import tornado
import tornado.httpserver
import tornado.netutil
import tornado.web
from behaviour import count, say, words
from tornado.websocket import WebSocketClosedError, WebSocketHandler


class Talk(WebSocketHandler):
    def open(self):
        self.path, self.query = words(self.request.uri)
        if self.path == "/count":
            self.counting = asyncio.create_task(self.count())

    async def count(self):
        with contextlib.suppress(WebSocketClosedError):
            await count(self.write_message, asyncio.sleep, float(self.query["rate"]))

    def get_compression_options(self):
        return {}

    async def on_message(self, message):
        if self.path == "/close":
            self.close(int(self.query["code"]), self.query["reason"])
        else:
            await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self):
        say("closed", self.path, self.close_code)


async def main():
    app = tornado.web.Application(
        [(r"/.*", Talk)], websocket_ping_interval=1, websocket_ping_timeout=1, websocket_max_message_size=64 * 1024 * 1024
    )
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    say("version", tornado.version)
    say("listening", sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
