// bun with_bun.js
const pad = 'x'.repeat(150);
const server = Bun.serve({
  hostname: '127.0.0.1', port: 0,
  fetch(request, server) {
    const url = new URL(request.url);
    if (server.upgrade(request, { data: { path: url.pathname, query: Object.fromEntries(url.searchParams) } })) return;
    return new Response('a WebSocket', { status: 400 });
  },
  websocket: {
    perMessageDeflate: true, maxPayloadLength: 64 * 1024 * 1024, backpressureLimit: 256 * 1024 * 1024, idleTimeout: 8, sendPings: true,
    open(socket) {
      if (socket.data.path !== '/count') return;
      const rate = Number(socket.data.query.rate), began = Date.now();
      let number = 0;
      socket.data.timer = setInterval(() => {
        while (number < (Date.now() - began) / 1000 * rate) socket.send(`{"n":${number++},"pad":"${pad}"}`);
      }, 5);
    },
    message(socket, message) {
      if (socket.data.path === '/close') socket.close(Number(socket.data.query.code), socket.data.query.reason);
      else socket.send(message, true);
    },
    close(socket, code) { clearInterval(socket.data.timer); console.log('closed', socket.data.path, code); },
  },
});
console.log('version', Bun.version);
console.log('listening', server.port);
