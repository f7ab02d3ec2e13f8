/** The watchdog's HTTP server: who is let in, how errors look, and where it listens. What it answers is in `routes.ts`. */
import { type FastifyInstance, fastify } from 'fastify'
import { messageOf, UserError } from '../kernel/errors.js'
import { refusalOf } from './auth.js'
import { addRoutes, type RouteDeps } from './routes.js'

const BODY_LIMIT_BYTES = 1024 * 1024

export interface HttpServerOptions {
  readonly host: string
  /** 0 = any free one. */
  readonly port: number
  readonly token: string | undefined
}

export interface HttpServer {
  /** Where it really listens, `http://127.0.0.1:7373`. */
  readonly address: string
  stop(): Promise<void>
}

/** @throws UserError PORT_IN_USE */
export async function startHttpServer(options: HttpServerOptions, deps: RouteDeps): Promise<HttpServer> {
  const server = fastify({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true })
  server.addHook('onRequest', async (request, reply) => {
    const path = request.url.split('?', 1)[0] ?? ''
    const { host, authorization } = request.headers
    const refusal = refusalOf({ path, host, authorization }, options.token)
    if (refusal) return reply.code(refusal.status).send(errorBody(refusal.code, refusal.message))
  })
  addErrors(server)
  addRoutes(server, deps)
  const address = await listen(server, options)
  return { address, stop: () => server.close() }
}

function addErrors(server: FastifyInstance): void {
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .send(errorBody('NOT_FOUND', `${request.method} ${request.url.split('?', 1)[0] ?? ''}: there is no such address`)),
  )
  server.setErrorHandler((error, _request, reply) => {
    const status = statusOf(error)
    // What broke inside is for the log of whoever runs it, not for whoever asks.
    const message = status < 500 ? messageOf(error) : 'the request could not be served'
    return reply
      .code(status)
      .send(errorBody(status === 413 ? 'BODY_TOO_LARGE' : status < 500 ? 'BAD_REQUEST' : 'INTERNAL', message))
  })
}

function statusOf(error: unknown): number {
  const status = typeof error === 'object' && error !== null && 'statusCode' in error ? error.statusCode : undefined
  return typeof status === 'number' && status >= 400 ? status : 500
}

async function listen(server: FastifyInstance, { host, port }: HttpServerOptions): Promise<string> {
  try {
    return await server.listen({ host, port })
  } catch (error) {
    await server.close()
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
      throw new UserError(
        'PORT_IN_USE',
        `port ${port} on ${host}: in use by another program; stop it, or choose another with --port (0 = any free)`,
      )
    }
    throw error
  }
}

const errorBody = (code: string, message: string) => ({ error: { code, message } })
