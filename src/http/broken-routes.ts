/**
 * What the log says of requests that broke inside: the first of a kind at once, the rest with a count. Method, route and
 * the place in the code; never what was asked for, and so no message of an error either, which may quote it.
 */
import { basename } from 'node:path'
import { Gatherer, withCount } from '../kernel/gatherer.js'
import type { LineLog } from '../watchdog/report.js'
import type { OnBroken } from './http-errors.js'

export function brokenRoutes(log: Pick<LineLog, 'warn'>, monotonicMs: () => number): OnBroken {
  const gatherer = new Gatherer({
    monotonicMs,
    say: (message, count) => log.warn({ event: 'error', count }, withCount(message, count)),
  })
  return (route, error) => gatherer.add(`${route} could not be served: ${kindOf(error)}`)
}

/** `TypeError at readBeats (redis-heartbeats.js:120)`; of Redis' own errors, the word that they begin with. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return `a ${typeof error} was thrown`
  const { name, message, stack = '' } = error
  const word = name === 'ReplyError' ? /^[A-Z]{2,}\b/.exec(message)?.[0] : undefined
  const place = placeIn(stack.slice(stack.indexOf(message) + message.length))
  return `${name}${word === undefined ? '' : ` ${word}`}${place === undefined ? '' : ` at ${place}`}`
}

const FRAME = /^\s+at (?:(.+?) \()?(?:file:\/\/)?(.+?):(\d+):\d+\)?$/

/** The topmost one that is not Node's own. */
function placeIn(frames: string): string | undefined {
  for (const line of frames.split('\n')) {
    const [, name, file, number] = FRAME.exec(line) ?? []
    if (file === undefined || file.startsWith('node:')) continue
    const where = `${basename(file)}:${number}`
    return name === undefined ? where : `${name} (${where})`
  }
  return undefined
}
