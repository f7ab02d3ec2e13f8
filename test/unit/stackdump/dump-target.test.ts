import { describe, expect, it } from 'vitest'
import { UserError } from '../../../src/kernel/errors.js'
import { checkTargets, targetsNamed } from '../../../src/stackdump/dump-target.js'

const place = (queue: string, number: number) => ({ queue, number })

describe('a thread that a person names', () => {
  it.each([
    [undefined, 'all'],
    ['main', ['main']],
    ['mail:1', [{ queue: 'mail', thread: 1 }]],
    ['a.b-c_d:32', [{ queue: 'a.b-c_d', thread: 32 }]],
  ])('%s is %j', (text, targets) => {
    expect(targetsNamed(text)).toEqual(targets)
  })

  it.each(['', 'all', 'mail', 'mail:', 'mail:0', 'mail:-1', 'mail:1.5', 'mail:01', 'a:b:1', ':1', 'mail:1\n', 'x'.repeat(500)])(
    'refuses %j in one line',
    (text) => {
      const refused = () => targetsNamed(text)
      expect(refused).toThrow(UserError)
      expect(refused).toThrow(/^thread "[^\n]{0,200}: names none; write main, or QUEUE:N/)
    },
  )

  it('must be there, or those that are there are said', () => {
    const threads = [place('mail', 2), place('mail', 1), place('img', 1)]
    expect(() => checkTargets('a', 'all', [])).not.toThrow()
    expect(() => checkTargets('a', ['main', { queue: 'mail', thread: 2 }], threads)).not.toThrow()
    expect(() => checkTargets('a', [{ queue: 'mail', thread: 3 }], threads)).toThrow(
      /^supervisor:a: it has no thread mail:3; it has main, img:1, mail:1 to mail:2$/,
    )
    expect(() => checkTargets('a', [{ queue: 'mail', thread: 1 }], [])).toThrow(/it has main$/)
  })
})
