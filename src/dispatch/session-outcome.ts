/** What a session's end means for its attempt. Pure. */
import type { SessionEnd, WorkspaceEnd } from '../launch/session.js'
import type { ThreadLoss } from './run-attempt.js'
import type { ThreadReply } from './thread-protocol.js'

export type SessionEnded = ThreadReply | { readonly ok: 'lost'; readonly loss: ThreadLoss }

export interface SessionRules {
  readonly permanentExitCodes: readonly number[]
  /** It is a suspect: a death proves it guilty. */
  readonly alone: boolean
}

/** How much of the last line of output an error message repeats, characters. */
const SHOWN_LINE = 200
/** What a shell makes of the signals by which a process dies that did not ask for it: ILL, ABRT, BUS, FPE, KILL, SEGV. */
const DEATHS: ReadonlySet<number> = new Set([132, 134, 135, 136, 137, 139])

/** @param left what its workspace left behind. @param output the last of it */
export function verdictOf(end: SessionEnd, left: WorkspaceEnd, output: string, rules: SessionRules): SessionEnded {
  const died = (message: string): SessionEnded => ({
    ok: 'lost',
    loss: { kind: rules.alone ? 'alone' : 'lost', message, ordered: false },
  })
  if (end.kind === 'lost') return died(end.message)
  if (end.code === 0) return { ok: true, json: JSON.stringify({ exitCode: 0, ...left }) }
  const lastLine = output.trimEnd().split('\n').at(-1)?.trim().slice(0, SHOWN_LINE) ?? ''
  const message = `the session ended with exit code ${end.code}${lastLine === '' ? '' : `: ${lastLine}`}`
  if (rules.permanentExitCodes.includes(end.code)) return failed(message, true)
  return DEATHS.has(end.code) ? died(message) : failed(message, false)
}

export function failed(message: string, permanent: boolean): SessionEnded {
  return { ok: false, error: { name: 'SessionError', message, stack: '', permanent } }
}

export function orderedEnd(reason: string): SessionEnded {
  return { ok: 'lost', loss: { kind: 'lost', message: `session ended: ${reason}`, ordered: true } }
}
