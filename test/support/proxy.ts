/** A TCP proxy before Redis that can swallow the replies on chosen connections: the socket stays open and says nothing. */

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Proxy {
  readonly url: string
  /** From now on, connections whose client ever sent this text get no replies any more. @returns how many are hit now */
  swallow(text: string): number
  /** New connections and data flow again; what was swallowed stays lost, and those sockets are cut. */
  heal(): void
}

interface Link {
  sent: string
  readonly client: Socket
  readonly server: Socket
}

/** As much as is kept of what a client sent, to tell its connections apart. */
const KEEP = 200_000

export async function startProxy(port: number): Promise<Proxy> {
  const links = new Set<Link>()
  const swallowed = new Set<string>()
  const isMute = (link: Link) => [...swallowed].some((text) => link.sent.includes(text))
  const server = createServer((client) => {
    const link: Link = { sent: '', client, server: connect(port, '127.0.0.1') }
    links.add(link)
    client.on('data', (chunk) => {
      link.sent = (link.sent + chunk.toString('latin1')).slice(-KEEP)
      link.server.write(chunk)
    })
    link.server.on('data', (chunk) => {
      if (!isMute(link)) client.write(chunk)
    })
    const end = () => {
      links.delete(link)
      client.destroy()
      link.server.destroy()
    }
    client.on('error', end).on('close', end)
    link.server.on('error', end).on('close', end)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const link of links) link.client.destroy()
    server.close()
  })
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    swallow(text) {
      swallowed.add(text)
      return [...links].filter(isMute).length
    },
    heal() {
      const mute = [...links].filter(isMute)
      swallowed.clear()
      for (const link of mute) link.client.destroy()
    },
  }
}
