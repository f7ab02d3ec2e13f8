import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { parseJobLine, readJobLines } from '../../../src/cli/job-lines.js'

const read = (text: string) => readJobLines(Readable.from([text]), 'jobs.ndjson')

describe('jobs as lines', () => {
  it('takes one job from each line, skips empty ones and names each by its number', async () => {
    const { jobs, where } = await read(
      '{"data":{"a":1}}\r\n\n{"data":2,"name":"x","jobId":"j","group":"g","priority":1,"delay":5,"attempts":2}',
    )
    expect(jobs).toEqual([
      { data: { a: 1 } },
      { data: 2, name: 'x', jobId: 'j', group: 'g', priority: 1, delay: 5, attempts: 2 },
    ])
    expect(where(1)).toBe('jobs.ndjson line 3')
  })

  it('names the first bad line and repeats nothing of what it holds', async () => {
    await expect(read('{"data":1}\n\n{"data": s3cret}')).rejects.toThrow(
      /^jobs\.ndjson line 3: not JSON \([^"]*\); correct it$/,
    )
    await expect(read('{"data": s3cret}')).rejects.not.toThrow(/s3cret/)
  })

  it.each([
    ['[1]', 'not an object'],
    ['7', 'not an object'],
    ['null', 'not an object'],
    ['{"data":1,"prio":2}', 'unknown key "prio"'],
    ['{"__proto__":{"a":1}}', 'unknown key "__proto__"'],
    ['{"data":1,"jobId":"a:b"}', 'jobId "a:b" has a colon'],
    ['{"data":1,"jobId":"17"}', 'whole number'],
    ['{"data":1,"jobId":"a\\u0007"}', 'control character'],
    ['{"data":1,"priority":-1}', 'priority must be'],
    ['{"data":1,"delay":"soon"}', 'delay must be'],
  ])('refuses %s', (line, reason) => {
    expect(() => parseJobLine(line, 'f line 1')).toThrow(new RegExp(`^f line 1: .*${reason}`))
  })

  it('keeps hostile keys inside data as plain data', () => {
    const { data } = parseJobLine('{"data":{"__proto__":{"polluted":true}}}', 'f line 1')
    expect(JSON.stringify(data)).toBe('{"__proto__":{"polluted":true}}')
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  })

  it('gives lines the defaults that they do not set themselves', () => {
    expect(parseJobLine('{"data":1,"name":"own"}', 'f', { name: 'common', group: 'g' })).toEqual({
      data: 1,
      name: 'own',
      group: 'g',
    })
  })
})
