import { describe, expect, it } from 'vitest'
import { bulkResetLine, cancelLine, drainLine, holdLine, resetLine } from '../../../src/cli/control-lines.js'

describe('what an order says that it did', () => {
  it.each([
    [
      resetLine('agents', 'j', { attemptsBefore: 8, runsInMs: 1200 }, false),
      'job:agents/j: is put back with all its attempts (8 attempts had been used); it may run in 1 s',
    ],
    [
      resetLine('agents', 'j', { attemptsBefore: 0 }, true),
      'dry run: job:agents/j: would be put back with all its attempts (none was used)',
    ],
    [
      bulkResetLine('agents', { jobs: 12, perSecond: 10 }, { permanent: false }, false),
      '12 jobs of queue agents will be put back, 10 a second',
    ],
    [
      bulkResetLine('agents', { jobs: 1, perSecond: 10 }, { permanent: false, group: 'eu' }, true),
      'dry run: of 1 job of queue agents, those of group eu would be put back, 10 a second',
    ],
    [
      bulkResetLine('agents', { jobs: 2, perSecond: 10 }, { permanent: true, group: '' }, false),
      'of 2 jobs of queue agents, those without a group will be put back, 10 a second',
    ],
    [
      bulkResetLine('agents', { jobs: 0, perSecond: 10 }, { permanent: true }, false),
      'queue agents has no exhausted or failed job: nothing is put back',
    ],
    [cancelLine('agents', 'j', { state: 'cancelled' }, false), 'job:agents/j: cancelled'],
    [
      cancelLine('agents', 'j', { state: 'stopping', supervisor: 'alpha' }, false),
      'job:agents/j: supervisor alpha is told to stop it; `unstuck explain agents j` says when it has',
    ],
    [
      cancelLine('agents', 'j', { state: 'marked' }, true),
      'dry run: job:agents/j: would be cancelled as soon as it is taken back from the supervisor that it lost',
    ],
    [holdLine('agents', 'pause', true, false), 'queue agents is paused: it keeps its jobs, and what runs goes on'],
    [holdLine('agents', 'resume', false, false), 'queue agents is not paused'],
    [drainLine('alpha', 0, false), 'supervisor alpha is told: it takes no more jobs and leaves'],
    [
      drainLine('alpha', 1, true),
      'dry run: supervisor alpha would be told: it takes no more jobs and leaves once 1 running job has ended',
    ],
  ])('%s', (line, expected) => {
    expect(line).toBe(expected)
  })

  it('lets no id move the cursor or break the line', () => {
    expect(cancelLine('agents', 'a\n\u001b[2J', { state: 'cancelled' }, false)).toBe('job:agents/a\\x0a\\x1b[2J: cancelled')
  })
})
