/**
 * Where log lines go. Synchronous: the last line before a crash or a SIGKILL to oneself is the one that matters, and a
 * transport thread would lose it. Job data and environment are never handed to a logger.
 */
import { type Logger, pino } from 'pino'
import { type PrettyOptions, prettyFactory } from 'pino-pretty'
import type { LogConfig } from './config.js'

export type { Logger } from 'pino'

export interface LoggerOptions extends LogConfig {
  /** Who speaks: `supervisor`, `watchdog`, `up`, `cli`. */
  readonly role: string
  /** The name of this supervisor or watchdog, when it has one. */
  readonly name?: string
}

/** What takes finished lines; each ends with a line break. Default: standard output, written at once. */
export interface LineSink {
  write(line: string): unknown
}

/** Makes the logger of one process. */
export function createLogger({ level, format, role, name }: LoggerOptions, sink: LineSink = standardOutput()): Logger {
  const base = { role, ...(name === undefined ? {} : { name }) }
  return pino({ level, base }, format === 'pretty' ? prettySink(sink) : sink)
}

/** `pretty` for a person at a terminal, `json` for whoever collects logs. */
export function defaultLogFormat(isTerminal: boolean | undefined = process.stdout.isTTY): LogConfig['format'] {
  return isTerminal ? 'pretty' : 'json'
}

function standardOutput(): LineSink {
  const destination = pino.destination({ dest: 1, sync: true })
  // A reader that goes away (`unstuck … | head`) is no reason to stop supervising.
  destination.on('error', () => undefined)
  return destination
}

/** Says nothing to a person, or repeats what the message says; the JSON lines carry it all. */
const plumbing = new Set([
  ...['level', 'time', 'pid', 'hostname', 'msg', 'err', 'role', 'name'],
  ...['event', 'seq', 'subjectKind', 'subject', 'cause', 'since', 'thresholdMs', 'incarnation', 'watchdogId', 'phase'],
])

/** A STUCK or RESUMED line says these in words. */
const inIncident = new Set(['queue', 'ageMs', 'jobId', 'attempt', 'step', 'durationMs'])

/** Makes finished JSON lines readable; for lines of other processes too. */
export function prettySink(sink: LineSink): LineSink {
  const options: PrettyOptions = {
    colorize: process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined,
    translateTime: 'SYS:HH:MM:ss.l',
    hideObject: true,
    ignore: 'name',
    messageFormat: (line) => prettyMessage(line),
  }
  const pretty = prettyFactory(options)
  return { write: (line) => sink.write(pretty(line)) }
}

function prettyMessage(line: Record<string, unknown>): string {
  const { role, name, msg } = line
  const isIncident = 'incidentId' in line
  const who = [role, name].filter((part) => typeof part === 'string').join(' ')
  const fields = Object.entries(line)
    .filter(([key, value]) => !plumbing.has(key) && !(isIncident && inIncident.has(key)) && value !== undefined)
    .map(([key, value]) => ` ${key}=${prettyValue(value)}`)
  return `[${who}] ${printable(String(msg ?? ''))}${fields.length > 0 ? ` ·${fields.join('')}` : ''}`
}

function prettyValue(value: unknown): string {
  if (typeof value === 'string') return /^[\w.:/@+-]+$/.test(value) ? value : printable(JSON.stringify(value))
  return printable(JSON.stringify(value) ?? String(value))
}

/** Names and errors come from job code: nothing in them may move the cursor or break the line. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
