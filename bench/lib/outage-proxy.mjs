/** A way to Redis that can stop passing anything on, both ways, without closing a connection. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

export async function startProxy(url) {
  const { hostname, port } = new URL(url)
  const sockets = new Set()
  let frozen = false
  const server = createServer((client) => {
    const redis = connect(Number(port), hostname)
    for (const [from, to] of [
      [client, redis],
      [redis, client],
    ]) {
      sockets.add(from)
      from.on('data', (chunk) => to.write(chunk))
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      if (frozen) from.pause()
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const each = (act) => {
    for (const socket of sockets) act(socket)
  }
  return {
    url: `redis://127.0.0.1:${server.address().port}`,
    freeze() {
      frozen = true
      each((socket) => socket.pause())
    },
    thaw() {
      frozen = false
      each((socket) => socket.resume())
    },
    close() {
      server.close()
      each((socket) => socket.destroy())
    },
  }
}
