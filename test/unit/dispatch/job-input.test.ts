import { describe, expect, it } from 'vitest'
import { checkJobInput, type JobInput } from '../../../src/dispatch/job-input.js'
import { UserError } from '../../../src/kernel/errors.js'

const WHERE = 'jobs.ndjson line 17'

/** What a caller without types may pass. */
function refusal(input: object): string {
  try {
    checkJobInput(input as JobInput, WHERE)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    expect(error.code).toBe('INPUT_INVALID')
    return error.message
  }
  throw new Error('it was accepted')
}

function circle(): object {
  const data: { self?: unknown } = {}
  data.self = data
  return data
}

describe('a job that is refused', () => {
  it.each<readonly [string, unknown, string]>([
    ['empty', '', 'jobId must be a non-empty text; leave it out to get one'],
    ['no text', 7, 'jobId must be a non-empty text; leave it out to get one'],
    ['an integer', '42', 'jobId "42" is a whole number, which BullMQ keeps for its own ids; put a letter before it'],
    ['a negative one', '-1', 'jobId "-1" is a whole number, which BullMQ keeps for its own ids; put a letter before it'],
    ['with a colon', 'a:b', 'jobId "a:b" has a colon, which separates parts of keys; use "-" or "_"'],
    ['with a line feed', 'a\nb', 'jobId "a\\nb" has a control character; leave it out'],
    ['with an escape', '\u001b[2J', 'jobId "\\u001b[2J" has a control character; leave it out'],
    ['with a C1 control', 'a\u009bb', 'jobId "a\u009bb" has a control character; leave it out'],
    ['too long', 'x'.repeat(161), 'jobId is longer than 160 bytes; use a hash of it'],
    ['too long in bytes', 'é'.repeat(81), 'jobId is longer than 160 bytes; use a hash of it'],
    ["a key of BullMQ's", 'wait', 'jobId "wait" is a key of BullMQ\'s own; put something before it'],
    ["a key of BullMQ's", 'stalled-check', 'jobId "stalled-check" is a key of BullMQ\'s own; put something before it'],
  ])('for its id: %s', (_, jobId, message) => {
    expect(refusal({ jobId })).toBe(`${WHERE}: ${message}`)
  })

  it.each<readonly [string, unknown, string]>([
    ['priority', 0, 'priority must be a whole number from 1 to 2097152'],
    ['priority', 2_097_153, 'priority must be a whole number from 1 to 2097152'],
    ['priority', 1.5, 'priority must be a whole number from 1 to 2097152'],
    ['priority', '1', 'priority must be a whole number from 1 to 2097152'],
    ['delay', -1, 'delay must be a whole number from 0 to 9007199254740991'],
    ['delay', Number.POSITIVE_INFINITY, 'delay must be a whole number from 0 to 9007199254740991'],
    ['delay', Number.NaN, 'delay must be a whole number from 0 to 9007199254740991'],
    ['attempts', 0, 'attempts must be a whole number from 1 to 1000000'],
    ['attempts', 1_000_001, 'attempts must be a whole number from 1 to 1000000'],
    ['attempts', null, 'attempts must be a whole number from 1 to 1000000'],
    ['name', '', 'name must be a non-empty text'],
    ['name', 5, 'name must be a non-empty text'],
    ['group', '', 'group must be a non-empty text'],
    ['group', {}, 'group must be a non-empty text'],
  ])('for its %s: %o', (field, value, message) => {
    expect(refusal({ [field]: value })).toBe(`${WHERE}: ${message}`)
  })

  it.each<readonly [string, unknown, string]>([
    ['a BigInt', { n: 1n }, '(a circle or a BigInt in it)'],
    ['a circle', circle(), '(a circle or a BigInt in it)'],
    ['a function', () => 1, '(a function)'],
    ['a symbol', Symbol('s'), '(a symbol)'],
  ])('for data that JSON cannot hold: %s', (_, data, why) => {
    expect(refusal({ data })).toBe(`${WHERE}: data cannot be stored as JSON ${why}; pass plain data`)
  })
})

describe('a job that is accepted', () => {
  it.each(['a', 'order-17', '17a', '1.5', '00-7', 'ünï', ' ', '#%&?*{}[]"\'\\', 'x'.repeat(160), 'waiting', '__proto__'])(
    'may be called %o',
    (jobId) => {
      expect(checkJobInput({ jobId }, WHERE).jobId).toBe(jobId)
    },
  )

  it('may be at every bound', () => {
    const low = { priority: 1, delay: 0, attempts: 1 }
    const high = { priority: 2_097_152, delay: Number.MAX_SAFE_INTEGER, attempts: 1_000_000 }
    expect(checkJobInput(low, WHERE)).toMatchObject(low)
    expect(checkJobInput(high, WHERE)).toMatchObject(high)
  })

  it('has {} for data when it has none, and null when it says null', () => {
    expect(checkJobInput({}, WHERE).data).toEqual({})
    expect(checkJobInput({ data: null }, WHERE).data).toBeNull()
  })

  it('E4 keeps a __proto__ key as data, and nothing is polluted by it', () => {
    const data: unknown = JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}')
    const checked = checkJobInput({ data }, WHERE)
    expect(JSON.stringify(checked.data)).toBe(JSON.stringify(data))
    const input = JSON.parse('{"__proto__":{"attempts":5}}') as JobInput
    expect(checkJobInput(input, WHERE).attempts).toBeUndefined()
    expect(Object.hasOwn({}, 'polluted')).toBe(false)
    expect('polluted' in {}).toBe(false)
  })
})
