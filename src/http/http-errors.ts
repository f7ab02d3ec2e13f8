/**
 * How every error looks: `{error: {code, message}}` with a status that says whose fault it is. What a person can cause
 * keeps its own code and words; what broke inside is for the log of whoever runs it, not for whoever asks.
 */
import type { FastifyInstance } from 'fastify'
import { messageOf, UserError, type UserErrorCode } from '../kernel/errors.js'

export interface ErrorAnswer {
  readonly status: number
  readonly code: string
  readonly message: string
}

export const errorBody = (code: string, message: string) => ({ error: { code, message } })

/**
 * Told of each answer that says 500.
 * @param route method and address as the reference has them, with names for what was asked
 */
export type OnBroken = (route: string, error: unknown) => void

export function addErrors(server: FastifyInstance, onBroken: OnBroken = () => undefined): void {
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .send(errorBody('NOT_FOUND', `${request.method} ${request.url.split('?', 1)[0] ?? ''}: there is no such address`)),
  )
  server.setErrorHandler((error, request, reply) => {
    const { status, code, message } = errorAnswer(error)
    if (status === 500) onBroken(`${request.method} ${request.routeOptions.url ?? ''}`, error)
    return reply.code(status).send(errorBody(code, message))
  })
}

export function errorAnswer(error: unknown): ErrorAnswer {
  if (error instanceof UserError) return { status: statusOfCode(error.code), code: error.code, message: error.message }
  const status = statusIn(error)
  if (status < 500) return { status, code: status === 413 ? 'BODY_TOO_LARGE' : 'BAD_REQUEST', message: messageOf(error) }
  return redisAnswer(messageOf(error)) ?? { status: 500, code: 'INTERNAL', message: 'the request could not be served' }
}

function statusOfCode(code: UserErrorCode): number {
  if (code.endsWith('_UNKNOWN')) return 404
  if (/^(REDIS|SENTINEL)_/.test(code)) return 503
  if (/^(DUMP|JOB|SUPERVISOR|THREAD)_/.test(code)) return 409
  return code === 'INPUT_INVALID' || code.startsWith('CONFIG_') ? 400 : 500
}

export function statusIn(error: unknown): number {
  const status = typeof error === 'object' && error !== null && 'statusCode' in error ? error.statusCode : undefined
  return typeof status === 'number' && status >= 400 ? status : 500
}

/** What Redis says when it takes no orders, or none of this kind, now. */
const REFUSED = /\b(OOM|READONLY|LOADING|MISCONF|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|NOAUTH|NOPERM|BUSY) /
const AWAY = /Command timed out|Connection is closed|Stream isn't writeable|Socket (closed|timeout)|ECONN|EPIPE|max retries/

function redisAnswer(message: string): ErrorAnswer | undefined {
  const refusal = REFUSED.exec(message)?.[1]
  if (refusal !== undefined)
    return { status: 503, code: 'REDIS_UNSUITABLE', message: `Redis refuses it (${refusal}); look at Redis, then try again` }
  return AWAY.test(message)
    ? { status: 503, code: 'REDIS_UNREACHABLE', message: 'Redis cannot be reached; check Redis' }
    : undefined
}
