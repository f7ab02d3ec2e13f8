import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { askText, type DumpAsk, MAX_ASK, parseAsk, parseReply, replyText } from '../../../src/stackdump/dump-protocol.js'
import { dumpOf } from '../../support/dumps.js'

const isOneLine = (text: string): boolean => text.indexOf('\n') === text.length - 1

describe("what goes through a sentinel's socket", () => {
  it('comes out as it went in, on one line', () => {
    const target = fc.oneof(fc.constant('main' as const), fc.record({ queue: fc.string(), thread: fc.maxSafeNat() }))
    const targets = fc.oneof(fc.constant('all' as const), fc.array(target, { minLength: 1 }))
    fc.assert(
      fc.property(fc.record({ targets, deep: fc.boolean() }), (ask: DumpAsk) => {
        expect(isOneLine(askText(ask))).toBe(true)
        expect(parseAsk(askText(ask))).toEqual(ask)
      }),
    )
    for (const reply of [
      { ok: true, dumps: [] },
      { ok: true, dumps: [dumpOf({ notes: ['a\nb'] }), dumpOf({ subject: 'main' })] },
      { ok: false, error: 'x\ny' },
    ] as const) {
      expect(isOneLine(replyText(reply))).toBe(true)
      expect(parseReply(replyText(reply))).toEqual(reply)
    }
  })

  it('fits, for hundreds of threads by name', () => {
    const targets = Array.from({ length: 450 }, (_, thread) => ({ queue: 'q'.repeat(100), thread }))
    expect(askText({ targets, deep: true }).length).toBeLessThan(MAX_ASK)
  })

  it('whatever comes, it is read or refused with a reason', () => {
    const names = fc.constantFrom('v', 'do', 'targets', 'deep', 'ok', 'error', 'dumps', '__proto__')
    const values = fc.oneof(fc.jsonValue(), fc.constantFrom(1, 'dump', 'all', true, [{}], ['main']))
    const anything = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.dictionary(names, values).map((value) => JSON.stringify(value)),
    )
    fc.assert(
      fc.property(anything, (line) => {
        for (const parse of [parseAsk, parseReply]) {
          try {
            parse(line)
          } catch (error) {
            expect(String(error)).toMatch(/^Error: .+/)
          }
        }
      }),
    )
  })

  it.each(['{"ok":true}', '{"ok":true,"dumps":[{}]}', '{"ok":true,"dumps":[null]}', '{"ok":false}', '{}', '[]', ''])(
    'takes %s for no answer',
    (line) => {
      expect(() => parseReply(line)).toThrow(/^it is no /)
    },
  )
})
