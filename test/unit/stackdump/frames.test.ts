import { describe, expect, it } from 'vitest'
import { frameText, ownFirst, ownFrames, parseStack, topOf } from '../../../src/stackdump/frames.js'

const OWN = '/srv/node_modules/unstuck/dist/'
const PROBE = ['Error: peek', '    at <anonymous>:5:20', '    at <anonymous>:30:3']

function setup(...lines: readonly string[]) {
  return parseStack([...PROBE, ...lines.map((line) => `    at ${line}`)].join('\n'), OWN)
}

describe('a stack that V8 gave', () => {
  it('becomes frames without the probe’s own', () => {
    expect(setup('charge (file:///srv/job.mjs:12:37)', 'file:///srv/job.mjs:40:3')).toEqual([
      { fn: 'charge', file: '/srv/job.mjs', line: 12, column: 37 },
      { fn: '(anonymous)', file: '/srv/job.mjs', line: 40, column: 3 },
    ])
  })

  it('is empty when nothing but the probe ran', () => {
    expect(setup()).toEqual([])
  })

  it.each([
    ['RegExp.test (<anonymous>)', { fn: 'RegExp.test' }],
    [
      'Timeout.spin [as _onTimeout] (/srv/a b/job.js:3:5)',
      { fn: 'Timeout.spin [as _onTimeout]', file: '/srv/a b/job.js', line: 3, column: 5 },
    ],
    ['async Promise.all (index 0)', { fn: 'Promise.all', async: true }],
    ['async charge (file:///srv/job.mjs:1:2)', { fn: 'charge', file: '/srv/job.mjs', line: 1, column: 2, async: true }],
    ['async file:///srv/job.mjs:1:2', { fn: '(anonymous)', file: '/srv/job.mjs', line: 1, column: 2, async: true }],
    ['new Job (file:///srv/job%20one.mjs?v=secret:1:2)', { fn: 'new Job', file: '/srv/job one.mjs', line: 1, column: 2 }],
    ['wasm://wasm/e0f9:wasm-function[0]:0x23', { fn: 'wasm-function[0]:0x23', file: 'wasm://wasm/e0f9' }],
    ['spin (wasm://wasm/e0f9:wasm-function[0]:0x23)', { fn: 'spin', file: 'wasm://wasm/e0f9' }],
    [
      'eval (eval at run (file:///srv/job.mjs:1:2), <anonymous>:1:1)',
      { fn: 'eval', file: 'eval at run (file:///srv/job.mjs:1:2), <anonymous>', line: 1, column: 1 },
    ],
    ['f (data:text/javascript,secret:1:2)', { fn: 'f', file: 'data:…', line: 1, column: 2 }],
  ])('%s is understood', (line, frame) => {
    expect(setup(line)).toEqual([frame])
  })

  it.each([
    'readSync (node:fs:745:3)',
    'onMessage (/srv/node_modules/piscina/dist/worker.js:180:22)',
    `runTask (file://${OWN}processes/task-thread.js:40:1)`,
  ])('%s is not the job’s own code', (line) => {
    expect(setup(line)).toMatchObject([{ internal: true }])
  })

  it('keeps long names short', () => {
    const [frame] = setup(`${'x'.repeat(5000)} (/srv/${'y'.repeat(5000)}.js:1:2)`)
    expect(frame?.fn.length).toBeLessThanOrEqual(160)
    expect(frame?.file?.length).toBeLessThanOrEqual(400)
  })
})

describe('the order of frames', () => {
  const lines = [
    'tryReadSync (node:internal/fs/sync:3:1)',
    'readFileSync (node:fs:440:20)',
    'load (/srv/job.mjs:3:5)',
    'Array.map (<anonymous>)',
    'handler (/srv/job.mjs:9:5)',
    'onMessage (/srv/node_modules/piscina/dist/worker.js:180:22)',
    'MessagePort.emit (node:events:1:1)',
  ]

  it('puts the job’s own code first, with the function of Node or V8 that it called', () => {
    expect(ownFirst(setup(...lines)).map(({ fn }) => fn)).toEqual([
      'readFileSync',
      'load',
      'Array.map',
      'handler',
      'tryReadSync',
      'onMessage',
      'MessagePort.emit',
    ])
  })

  it('calls what piscina alone called internal', () => {
    const idle = setup('Atomics.wait (<anonymous>)', 'atomicsWaitLoop (/srv/node_modules/piscina/dist/worker.js:88:22)')
    expect(ownFrames(idle)).toEqual([])
    expect(ownFirst(idle).every(({ internal }) => internal)).toBe(true)
  })

  it('names the innermost place in own code', () => {
    const top = topOf(ownFirst(setup(...lines)))
    expect(top && frameText(top)).toBe('load (/srv/job.mjs:3:5)')
  })
})
