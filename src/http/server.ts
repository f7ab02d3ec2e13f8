/** The watchdog's HTTP server: who is let in, how errors look, and where it listens. What it answers is in `routes.ts`. */
import { type FastifyInstance, fastify } from 'fastify'
import { hasCode, UserError } from '../kernel/errors.js'
import type { AccessRules } from './access.js'
import { addAccess, SECURITY_HEADERS } from './access-hook.js'
import { answerBrokenRequest } from './broken-request.js'
import { addErrors, errorBody, type OnBroken, statusIn } from './http-errors.js'
import { AJV, addInputRules } from './http-input.js'
import { addRoutes, type RouteDeps } from './routes.js'
import { addTurns } from './turns.js'

const BODY_LIMIT_BYTES = 1024 * 1024
/** Of a name in an address; percent-encoded, a job's id is up to three times as long as it is. */
const MAX_PARAM_LENGTH = 4096

/** What a client may take, so that slow ones cannot hold the server. An answer, once asked for, may last. */
export interface ServerLimits {
  /** From connecting to the last header, milliseconds. */
  readonly headersMs: number
  /** From connecting to the last byte of the body, milliseconds. */
  readonly requestMs: number
  readonly connections: number
}

export const SERVER_LIMITS: ServerLimits = { headersMs: 10_000, requestMs: 30_000, connections: 4096 }

export interface HttpServerOptions extends AccessRules {
  readonly host: string
  /** 0 = any free one. */
  readonly port: number
  /** Default: nobody is told. */
  readonly onBroken?: OnBroken
}

export interface HttpServer {
  /** Where it really listens, `http://127.0.0.1:7373`. */
  readonly address: string
  stop(): Promise<void>
}

/** What else is served: `addRoutes` is the first. Access is decided before all of them. */
export type AddToServer = (server: FastifyInstance) => void | Promise<void>

/**
 * @param more added after the routes, in this order
 * @throws UserError PORT_IN_USE
 */
export async function startHttpServer(
  options: HttpServerOptions,
  deps: RouteDeps,
  ...more: readonly AddToServer[]
): Promise<HttpServer> {
  return serve(options, [(server) => addRoutes(server, deps), ...more])
}

/** @throws UserError PORT_IN_USE */
export async function serve(
  options: HttpServerOptions,
  parts: readonly AddToServer[],
  limits: ServerLimits = SERVER_LIMITS,
): Promise<HttpServer> {
  const server = serverWith(limits)
  addTurns(server)
  await addAccess(server, options)
  addErrors(server, options.onBroken)
  addInputRules(server)
  for (const add of parts) await add(server)
  const address = await listen(server, options)
  return { address, stop: () => server.close() }
}

function serverWith({ headersMs, requestMs, connections }: ServerLimits): FastifyInstance {
  const server = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    forceCloseConnections: true,
    ajv: AJV,
    requestTimeout: requestMs,
    http: { headersTimeout: headersMs, connectionsCheckingInterval: Math.min(headersMs, 1000) },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    clientErrorHandler: answerBrokenRequest,
    // Addresses that cannot be read never reach a hook.
    frameworkErrors: (error, _request, { raw }) => {
      const body = JSON.stringify(errorBody('BAD_REQUEST', 'the address cannot be read; check its percent-encoding and length'))
      raw.writeHead(statusIn(error), { ...SECURITY_HEADERS, 'content-type': 'application/json; charset=utf-8' }).end(body)
    },
  })
  server.server.maxConnections = connections
  return server
}

async function listen(server: FastifyInstance, { host, port }: HttpServerOptions): Promise<string> {
  try {
    return await server.listen({ host, port })
  } catch (error) {
    await server.close()
    if (hasCode(error, 'EADDRINUSE')) {
      throw new UserError(
        'PORT_IN_USE',
        `port ${port} on ${host}: in use by another program; stop it, or choose another with --port (0 = any free)`,
      )
    }
    throw error
  }
}
