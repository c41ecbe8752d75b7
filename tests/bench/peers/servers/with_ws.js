// node with_ws.js
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 }, maxPayload: 64 * 1024 * 1024 });
server.on('listening', () => {
  console.log('version', require('ws/package.json').version, '(node ' + process.version + ')');
  console.log('listening', server.address().port);
});
const pad = 'x'.repeat(150);
server.on('connection', (socket, request) => {
  const url = new URL(request.url, 'ws://localhost');
  let timer = null, alive = true;
  const pinging = setInterval(() => { if (!alive) return socket.terminate(); alive = false; socket.ping(); }, 1000);
  socket.on('pong', () => { alive = true; });
  socket.on('error', () => {});
  if (url.pathname === '/count') {
    const rate = Number(url.searchParams.get('rate')), began = Date.now();
    let number = 0;
    timer = setInterval(() => {
      while (number < (Date.now() - began) / 1000 * rate) socket.send(`{"n":${number++},"pad":"${pad}"}`);
    }, 5);
  }
  socket.on('message', (data, binary) => {
    if (url.pathname === '/close') socket.close(Number(url.searchParams.get('code')), url.searchParams.get('reason'));
    else socket.send(data, { binary });
  });
  socket.on('close', (code) => { clearInterval(timer); clearInterval(pinging); console.log('closed', url.pathname, code); });
});
