import { describe, expect, it } from 'vitest'
import { barText, duration, printable, Terminal, table } from '../../../src/cli/terminal.js'

function setup({ isTTY }: { isTTY: boolean }) {
  let written = ''
  const stream = {
    isTTY,
    columns: 80,
    write: (text: string) => {
      written += text
      return true
    },
  } as NodeJS.WriteStream
  return { terminal: new Terminal(stream, stream), written: () => written }
}

describe('the terminal', () => {
  it('takes the bar away before a line and draws it again after it', () => {
    const { terminal, written } = setup({ isTTY: true })
    terminal.progress('jobs', 4).update(1)
    const bar = barText('jobs', 1, 4)
    terminal.line('STUCK')
    expect(written()).toBe(`${bar}\r\x1b[KSTUCK\n${bar}`)
  })

  it('writes a plain line at each quarter where there is no terminal', () => {
    const { terminal, written } = setup({ isTTY: false })
    const progress = terminal.progress('jobs', 8)
    for (let done = 0; done <= 8; done += 1) progress.update(done)
    expect(written()).toBe('jobs 2/8\njobs 4/8\njobs 6/8\njobs 8/8\n')
  })

  it('lines up columns, colours not counted', () => {
    expect(
      table([
        ['a', 'bb'],
        ['\x1b[31mccc\x1b[0m', 'd'],
      ]),
    ).toEqual(['a    bb', '\x1b[31mccc\x1b[0m  d'])
  })

  it.each([
    [850, '850 ms'],
    [12_300, '12 s'],
    [250_000, '4 m 10 s'],
    [7_500_000, '2 h 5 m'],
  ])('says %i ms as %s', (ms, text) => {
    expect(duration(ms)).toBe(text)
  })

  it('lets no control character through', () => {
    expect(printable('a\x1b[2J\nb')).toBe('a\\x1b[2J\\x0ab')
  })
})
