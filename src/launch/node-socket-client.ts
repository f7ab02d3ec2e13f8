/** A session's side of the socket: what `unstuck beat`, `unstuck fence check` and `assertFence` ask of the supervisor. */
import { FenceLostError, messageOf, UserError } from '../kernel/errors.js'
import { askLine } from '../platform/line-socket.js'
import { CONNECTION_MS, MAX_LINE, parseAnswer, requestLine, type SocketAnswer, type SocketRequest } from './socket-protocol.js'

type Environment = Readonly<Record<string, string | undefined>>

const FIX = 'run it inside the command of a queue with a session'

/**
 * @param env of a session: it says who asks, and where
 * @throws FenceLostError when the supervisor says that the job is not this session's any more
 * @throws UserError SESSION_MISSING outside of a session; SESSION_UNREACHABLE when nobody can say whose job it is
 */
export async function askSupervisor(env: Environment, request: Pick<SocketRequest, 'do' | 'progress'>): Promise<void> {
  const path = variable(env, 'UNSTUCK_SOCKET')
  const session = { queue: variable(env, 'UNSTUCK_QUEUE'), job: variable(env, 'UNSTUCK_JOB_ID'), fence: fenceOf(env) }
  const answer = await exchange(path, { ...request, ...session })
  if (answer.ok) return
  if (answer.unsure) throw unreachable(answer.error)
  throw new FenceLostError(`${answer.error}; stop, and change nothing any more`)
}

/**
 * Returns while this session still owns its job; for before a side effect that must not happen twice.
 * @throws FenceLostError when the job was taken back, cancelled or given to another session
 * @throws UserError SESSION_MISSING outside of a session; SESSION_UNREACHABLE when nobody can say
 */
export function assertFence(): Promise<void> {
  return askSupervisor(process.env, { do: 'fence' })
}

function variable(env: Environment, name: string): string {
  const value = env[name]
  if (value === undefined || value === '')
    throw new UserError('SESSION_MISSING', `${name}: not set, so this is no session; ${FIX}`)
  return value
}

function fenceOf(env: Environment): number {
  const text = variable(env, 'UNSTUCK_FENCE')
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new UserError('SESSION_MISSING', `UNSTUCK_FENCE: is no whole number; ${FIX}, and leave its variables as they are`)
}

function unreachable(why: string, cause?: unknown): UserError {
  return new UserError(
    'SESSION_UNREACHABLE',
    `supervisor: ${why}; try again, and until then change nothing that must not happen twice`,
    {
      cause,
    },
  )
}

async function exchange(path: string, request: SocketRequest): Promise<SocketAnswer> {
  try {
    return parseAnswer(await askLine(path, requestLine(request), { limitMs: CONNECTION_MS, maxBytes: MAX_LINE }))
  } catch (error) {
    throw unreachable(`cannot be asked at ${path} (${messageOf(error)})`, error)
  }
}
