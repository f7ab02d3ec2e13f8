/** Jobs as text: one JSON object a line, or one `--data`. Pure but for the stream that is read; a bad line is named by its number. */
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { checkJobInput, type JobInput } from '../dispatch/job-input.js'
import { messageOf, UserError } from '../kernel/errors.js'

const KEYS: ReadonlySet<string> = new Set(['data', 'name', 'jobId', 'group', 'priority', 'delay', 'attempts'])

export interface JobLines {
  readonly jobs: readonly JobInput[]
  /** How job `index` is named in an error: `jobs.ndjson line 17`. */
  readonly where: (index: number) => string
}

/**
 * Reads and checks all lines; empty ones are skipped.
 * @param defaults what lines that do not say otherwise get
 * @throws UserError INPUT_INVALID naming the first bad line
 */
export async function readJobLines(stream: Readable, file: string, defaults: JobInput = {}): Promise<JobLines> {
  const jobs: JobInput[] = []
  const numbers: number[] = []
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })
  let number = 0
  for await (const line of lines) {
    number += 1
    if (line.trim() === '') continue
    jobs.push(parseJobLine(line, `${file} line ${number}`, defaults))
    numbers.push(number)
  }
  return { jobs, where: (index) => `${file} line ${numbers[index] ?? '?'}` }
}

export function parseJobLine(line: string, where: string, defaults: JobInput = {}): JobInput {
  // Some programs begin a file with a mark of its byte order.
  const value = parseJson(line.replace(/^\uFEFF/, ''), where)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(where, 'not an object; write {"data": …} with optional name, jobId, group, priority, delay, attempts')
  }
  const unknown = Object.keys(value).find((key) => !KEYS.has(key))
  if (unknown !== undefined) {
    throw refused(
      where,
      `unknown key ${JSON.stringify(unknown)}; use ${[...KEYS].join(', ')}, and put the job's own fields under "data"`,
    )
  }
  return checkJobInput({ ...defaults, ...value }, where)
}

/** @throws UserError INPUT_INVALID; the text itself, which may be a secret, is not repeated */
export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const reason = messageOf(error)
      .replace(/, (\.{3})?".*$/s, '')
      .replace(/ in JSON at position (\d+).*$/s, ' at position $1')
    throw refused(where, `not JSON (${reason.replace(/\s+/g, ' ')}); correct it`)
  }
}

function refused(where: string, what: string): UserError {
  return new UserError('INPUT_INVALID', `${where}: ${what}`)
}
