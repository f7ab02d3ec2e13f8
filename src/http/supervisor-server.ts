/**
 * The supervisor's own endpoints: /livez (it need not be started anew), /readyz (it takes jobs), /metrics. No Redis behind
 * any of them. It runs in the sentinel thread, so it answers while the main thread hangs, and it may not keep that thread busy.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hasCode, UserError } from '../kernel/errors.js'

export interface SupervisorServerOptions {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** Why this process ought to be started anew; undefined when it lives. */
  readonly problem: () => string | undefined
  readonly isReady: () => boolean
  readonly metrics: () => Promise<string>
}

/** Probes and scrapers are few and quick: more at once, or slower ones, are turned away. */
const MOST_CONNECTIONS = 100
const REQUEST_WITHIN_MS = 5000

/**
 * Serves until its thread ends.
 * @returns the port
 * @throws UserError PORT_IN_USE
 */
export async function startSupervisorServer(options: SupervisorServerOptions): Promise<number> {
  const limits = { headersTimeout: REQUEST_WITHIN_MS, requestTimeout: REQUEST_WITHIN_MS, connectionsCheckingInterval: 1000 }
  const server = createServer(limits, (request, response) => {
    answer(options, request, response).catch((error: unknown) => refuse(response, 500, 'INTERNAL', String(error)))
  })
  server.maxConnections = MOST_CONNECTIONS
  await listen(server, options)
  return (server.address() as AddressInfo).port
}

async function answer(options: SupervisorServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, 'BAD_REQUEST', 'ask with GET')
  switch ((request.url ?? '/').split('?', 1)[0]) {
    case '/livez': {
      const reason = options.problem()
      return reason === undefined ? reply(response, 200, { status: 'ok' }) : reply(response, 503, { status: 'stuck', reason })
    }
    case '/readyz':
      return options.isReady() ? reply(response, 200, { status: 'ok' }) : reply(response, 503, { status: 'not ready' })
    case '/metrics':
      return send(response, 200, await options.metrics(), 'text/plain; version=0.0.4; charset=utf-8')
    default:
      return refuse(response, 404, 'NOT_FOUND', 'there is /livez, /readyz and /metrics')
  }
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  reply(response, status, { error: { code, message } })
}

function reply(response: ServerResponse, status: number, body: object): void {
  send(response, status, JSON.stringify(body), 'application/json')
}

function send(response: ServerResponse, status: number, body: string, type: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body)
}

function listen(server: Server, { host, port }: SupervisorServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        hasCode(error, 'EADDRINUSE')
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
