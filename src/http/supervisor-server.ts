/** The supervisor's own endpoints: /livez (the process answers), /readyz (it takes jobs), /metrics. No Redis behind any of them. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { UserError } from '../kernel/errors.js'

export interface SupervisorServerOptions {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly isReady: () => boolean
  readonly metrics: () => Promise<string>
}

export interface SupervisorServer {
  readonly port: number
  close(): Promise<void>
}

/** @throws UserError PORT_IN_USE */
export async function startSupervisorServer(options: SupervisorServerOptions): Promise<SupervisorServer> {
  const server = createServer((request, response) => {
    answer(options, request.url ?? '/', response).catch((error: unknown) => {
      reply(response, 500, JSON.stringify({ error: { code: 'INTERNAL', message: String(error) } }))
    })
  })
  await listen(server, options)
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(options: SupervisorServerOptions, url: string, response: ServerResponse): Promise<void> {
  switch (url.split('?', 1)[0]) {
    case '/livez':
      return reply(response, 200, '{"status":"ok"}')
    case '/readyz':
      return options.isReady() ? reply(response, 200, '{"status":"ok"}') : reply(response, 503, '{"status":"not ready"}')
    case '/metrics':
      return reply(response, 200, await options.metrics(), 'text/plain; version=0.0.4; charset=utf-8')
    default:
      return reply(
        response,
        404,
        JSON.stringify({ error: { code: 'NOT_FOUND', message: 'there is /livez, /readyz and /metrics' } }),
      )
  }
}

function reply(response: ServerResponse, status: number, body: string, type = 'application/json'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body)
}

function listen(server: Server, { host, port }: SupervisorServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE'
      reject(
        inUse
          ? new UserError(
              'PORT_IN_USE',
              `supervisor.port ${port}: something else listens there; choose another, or 0 for any free one`,
            )
          : error,
      )
    })
    server.listen(port, host, resolve)
  })
}
