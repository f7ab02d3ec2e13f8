import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  answerLine,
  MAX_LINE,
  parseAnswer,
  parseRequest,
  requestLine,
  type SocketRequest,
} from '../../../src/launch/socket-protocol.js'

const anyText = fc.string({ unit: 'binary' })

describe('what goes through the socket', () => {
  it('comes out as it went in, on one line', () => {
    const progress = fc.option(fc.string({ maxLength: 200 }), { nil: undefined })
    const session = fc.record({ queue: anyText, job: anyText, fence: fc.maxSafeNat(), progress })
    fc.assert(
      fc.property(fc.constantFrom('beat', 'fence'), session, (what, { progress, ...rest }) => {
        const request: SocketRequest = { do: what, ...rest, ...(progress === undefined ? {} : { progress }) }
        const line = requestLine(request)
        expect(line.indexOf('\n')).toBe(line.length - 1)
        expect(parseRequest(line)).toEqual(request)
      }),
    )
    for (const answer of [{ ok: true }, { ok: false, error: 'x\ny' }, { ok: false, error: 'x', unsure: true }] as const) {
      expect(parseAnswer(answerLine(answer))).toEqual(answer)
    }
  })

  it('fits, whatever id of a job a session may have', () => {
    expect(requestLine({ do: 'beat', queue: 'q'.repeat(100), job: '\u0001'.repeat(8192), fence: 1 }).length).toBeLessThan(
      MAX_LINE,
    )
  })

  it('E4: whatever comes, it is read or refused with a reason', () => {
    const fields = fc.constantFrom('v', 'do', 'queue', 'job', 'fence', 'progress', 'ok', 'error', '__proto__')
    const near = fc.dictionary(fields, fc.oneof(fc.jsonValue(), fc.constantFrom(1, 'beat', true)))
    fc.assert(
      fc.property(
        fc.oneof(
          anyText,
          fc.json(),
          near.map((value) => JSON.stringify(value)),
        ),
        (line) => {
          for (const parse of [parseRequest, parseAnswer]) {
            try {
              parse(line)
            } catch (error) {
              expect(error).toBeInstanceOf(Error)
              expect(error).not.toBeInstanceOf(TypeError)
            }
          }
        },
      ),
    )
  })
})
