/**
 * Node's servers, as a process of their own: HTTPS and HTTP/2 at port 443, HTTP at 80, and what takes bytes at 9000.
 * Tells each thing that arrives as a line of JSON.
 *
 *   node node-server.js ADDRESS CERTIFICATE KEY
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import { createSecureContext, type TLSSocket } from 'node:tls';
import { createHash } from 'node:crypto';

const [host = '', certificate = '', key = ''] = process.argv.slice(2);
const pem = { cert: readFileSync(certificate), key: readFileSync(key) };
const context = createSecureContext(pem);
const tell = (what: object) => console.log(JSON.stringify(what));
const MEBIBYTE = Buffer.alloc(1 << 20, 'x');
/** RFC 6455, 1.3 */
const WEBSOCKET = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** `/bytes/N` is N MiB; everything else says what was asked for. */
function answer(
  request: IncomingMessage | Http2ServerRequest,
  response: Pick<ServerResponse | Http2ServerResponse, 'end' | 'once'> & { write(chunk: Buffer): boolean },
): void {
  const { method = '', url = '', httpVersion } = request;
  const socket = request.socket as Partial<TLSSocket>;
  let body = 0;
  request.on('data', (data: Buffer) => {
    body += data.length;
  });
  request.on('end', () => {
    const name = request.headers[':authority'] ?? request.headers.host;
    tell({ what: 'request', method, url, host: name, version: httpVersion, body, sni: socket.servername || '' });
    let left = Number(/^\/bytes\/(\d+)/.exec(url)?.[1] ?? 0);
    if (left === 0) return void response.end(`${method} ${url}\n`);
    const more = (): void => {
      while (left-- > 0) if (!response.write(MEBIBYTE)) return void response.once('drain', more);
      response.end();
    };
    more();
  });
}

const secure = createSecureServer(
  {
    ...pem,
    allowHTTP1: true,
    SNICallback: (name, done) => {
      tell({ what: 'hello', sni: name });
      done(null, context);
    },
  },
  answer as never,
);
secure.on('secureConnection', (socket: TLSSocket) => {
  tell({ what: 'secure', sni: socket.servername || '', alpn: socket.alpnProtocol || '' });
});
secure.on('tlsClientError', () => undefined);
secure.listen(443, host);

const plain = createServer(answer);
plain.on('checkContinue', (request, response) => {
  tell({ what: 'expects', url: request.url });
  response.writeContinue();
  answer(request, response);
});
/** Echoes what comes after the upgrade. */
plain.on('upgrade', (request, socket) => {
  tell({ what: 'upgrade', url: request.url });
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${WEBSOCKET}`).digest('base64');
  socket.on('error', () => undefined);
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.pipe(socket);
});
/** A tunnel that leads nowhere: it echoes. */
plain.on('connect', (request, socket) => {
  tell({ what: 'connect', url: request.url });
  socket.on('error', () => undefined);
  socket.write('HTTP/1.1 200 OK\r\n\r\n');
  socket.pipe(socket);
});
plain.listen(80, host);

createTcpServer((socket) => {
  let bytes = Buffer.alloc(0);
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    bytes = Buffer.concat([bytes, data]);
  });
  socket.on('close', () => tell({ what: 'bytes', text: bytes.toString('latin1') }));
}).listen(9000, host, () => tell({ what: 'ready' }));
