import { describe, expect, it } from 'vitest'
import { createLogger, defaultLogFormat, type LoggerOptions } from '../../../src/platform/pino-logger.js'

function setup(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = []
  const sink = { write: (line: string) => lines.push(line) }
  const logger = createLogger({ level: 'info', format: 'json', role: 'watchdog', ...options }, sink)
  return { logger, lines }
}

describe('the logger', () => {
  it('writes one JSON object a line with level, role and the fields of the event', () => {
    const { logger, lines } = setup({ name: 'w1' })
    logger.warn({ event: 'stuck', cause: 'job_silent' }, 'STUCK job:images/7: job_silent for 5 s')
    expect(lines).toHaveLength(1)
    expect(lines[0]?.endsWith('\n')).toBe(true)
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      level: 40,
      role: 'watchdog',
      name: 'w1',
      event: 'stuck',
      cause: 'job_silent',
      msg: 'STUCK job:images/7: job_silent for 5 s',
    })
  })

  it('has written the line when the call returns, in both formats', () => {
    for (const format of ['json', 'pretty'] as const) {
      const { logger, lines } = setup({ format })
      logger.info('now')
      expect(lines).toHaveLength(1)
    }
  })

  it('says who speaks, what, and the fields that the message does not say, on one pretty line', () => {
    const { logger, lines } = setup({ format: 'pretty', role: 'supervisor', name: 'box-1' })
    logger.warn(
      { event: 'stuck', queue: 'images', jobId: '7', step: 'clone the repo', incarnation: 'x1' },
      'STUCK job:images/7',
    )
    expect(lines[0]).toMatch(/WARN: \[supervisor box-1\] STUCK job:images\/7 · queue=images jobId=7 step="clone the repo"\n$/)
    expect(lines[0]).not.toContain('x1')
  })

  it('lets nothing that a job named move the cursor or break a pretty line', () => {
    const { logger, lines } = setup({ format: 'pretty' })
    logger.warn({ step: 'a\u001b[2Jb\nc' }, 'STUCK \u001b[31m\nRESUMED')
    expect(lines[0]?.trimEnd()).not.toMatch(/\p{Cc}/u)
  })

  it('says nothing below its level', () => {
    const { logger, lines } = setup({ level: 'warn' })
    logger.info('healthy')
    expect(lines).toEqual([])
  })

  it('is pretty on a terminal and JSON otherwise', () => {
    expect(defaultLogFormat(true)).toBe('pretty')
    expect(defaultLogFormat(undefined)).toBe('json')
  })
})
