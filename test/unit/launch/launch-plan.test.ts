import { spawnSync } from 'node:child_process'
import { relative } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type LaunchRequest, planLaunch, type SessionJob } from '../../../src/launch/launch-plan.js'
import { LaunchError } from '../../../src/launch/session.js'
import type { SessionConfig } from '../../../src/platform/config.js'

const SESSION: SessionConfig = {
  command: 'agent',
  args: [],
  env: {},
  workspace: { git: '/repo', base: 'main' },
  keep: 'never',
  tmux: false,
  graceMs: 10_000,
  logBytes: 4096,
  permanentExitCodes: [],
}

const JOB: SessionJob = { id: 'j-1', name: 'fix', queue: 'agents', data: {}, group: undefined, attempt: 2, fence: 7 }

function plan({
  session,
  job,
  ...rest
}: { session?: Partial<SessionConfig>; job?: Partial<SessionJob> } & Partial<Omit<LaunchRequest, 'session' | 'job'>> = {}) {
  return planLaunch({
    session: { ...SESSION, ...session },
    job: { ...JOB, ...job },
    runtimeDir: '/run/u',
    socket: '/tmp/s',
    inherited: {},
    ...rest,
  })
}

const argsOf = (args: readonly string[], job: Partial<SessionJob>) => plan({ session: { args }, job }).args

function refusalOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(LaunchError)
    expect(error).toMatchObject({ permanent: true })
    return String(error)
  }
  return expect.unreachable('was not refused')
}

const isBranch = (name: string) => spawnSync('git', ['check-ref-format', `refs/heads/${name}`]).status === 0

describe('the plan of a launch', () => {
  it('names folder, workspace and branch after queue, job and fence', () => {
    expect(plan()).toEqual({
      command: 'agent',
      args: [],
      env: {
        UNSTUCK_JOB_ID: 'j-1',
        UNSTUCK_QUEUE: 'agents',
        UNSTUCK_ATTEMPT: '2',
        UNSTUCK_FENCE: '7',
        UNSTUCK_HEARTBEAT_FILE: '/run/u/sessions/agents/j-1-7/heartbeat',
        UNSTUCK_SOCKET: '/tmp/s',
      },
      input: '{}',
      folder: '/run/u/sessions/agents/j-1-7',
      workspace: {
        path: '/run/u/sessions/agents/j-1-7/workspace',
        git: { repo: '/repo', base: 'main', branch: 'unstuck/agents/j-1' },
      },
    })
    expect(plan({ session: { workspace: { git: undefined, base: undefined } } }).workspace).toEqual({
      path: '/run/u/sessions/agents/j-1-7/workspace',
    })
  })

  it('gives the data as JSON, and null when there is none', () => {
    expect(plan({ job: { data: { a: ['–', '$(x)'] } } }).input).toBe('{"a":["–","$(x)"]}')
    expect(plan({ job: { data: undefined } }).input).toBe('null')
  })

  it('takes from the environment what is on the list, what is asked for, and sets what is its own', () => {
    const inherited = {
      PATH: '/bin',
      LC_ALL: 'C',
      TZ: undefined,
      REDIS_URL: 'secret',
      GIT_DIR: '/x',
      TOKEN: 't',
      UNSTUCK_FENCE: '1',
    }
    const { env } = plan({ inherited, session: { env: { TOKEN: true, NONE: true, PATH: '/own', EMPTY: '' } } })
    expect(env).toMatchObject({ PATH: '/own', LC_ALL: 'C', TOKEN: 't', EMPTY: '', UNSTUCK_FENCE: '7' })
    for (const name of ['TZ', 'REDIS_URL', 'GIT_DIR', 'NONE']) expect(env).not.toHaveProperty(name)
  })

  it('names a tmux session only when there is to be one, without what tmux reads itself', () => {
    expect(plan()).not.toHaveProperty('tmux')
    const named = (id: string) => plan({ session: { tmux: true }, job: { id } }).tmux
    expect(named('a.b')).toMatch(/^unstuck-agents-a_b-7-[0-9a-f]{8}$/)
    expect(named('a.b')).not.toBe(named('a_b'))
  })
})

describe('a placeholder', () => {
  it('is filled when it is the whole argument, and left alone anywhere else', () => {
    const data = { path: 'src/a b.ts', n: -0, deep: { er: { yes: true } }, empty: '', job: { id: 'other', title: 't' } }
    const args = ['--file', '{path}', '--file={path}', '{path} ', '{{path}}', '{}', '{1}', '{n}', '{deep.er.yes}', '{empty}']
    expect(argsOf(args, { data })).toEqual([
      ...['--file', 'src/a b.ts', '--file={path}', '{path} ', '{{path}}', '{}', '{1}', '0', 'true', ''],
    ])
    expect(argsOf(['{job.id}', '{job.name}', '{job.queue}', '{job.attempt}', '{job.fence}', '{job.title}'], { data })).toEqual([
      ...['j-1', 'fix', 'agents', '2', '7', 't'],
    ])
    expect(argsOf(['{job.group}'], { group: 'acme' })).toEqual(['acme'])
  })

  it.each<[string, unknown, string]>([
    ['missing', {}, 'is missing'],
    ['null', { v: null }, 'is null'],
    ['an object', { v: {} }, 'is an object'],
    ['a list', { v: [1] }, 'is a list'],
    ['too long', { v: 'x'.repeat(8193) }, 'is longer than 8192 characters'],
    ['a NUL', { v: 'a\0b' }, 'holds a control character'],
    ['a new line', { v: 'a\nb' }, 'holds a control character'],
    ['an escape', { v: '\u001b[2J' }, 'holds a control character'],
    ['a C1 control', { v: '\u009b' }, 'holds a control character'],
    ['an option', { v: '--upload-pack=touch' }, 'begins with "-"'],
    ['a dash', { v: '-' }, 'begins with "-"'],
    ['a negative number', { v: -1 }, 'begins with "-"'],
    ['a way out', { v: '../x' }, 'holds the path segment ".."'],
    ['a way out, deep', { v: 'a/../../x' }, 'holds the path segment ".."'],
    ['a way out of Windows', { v: 'a\\..' }, 'holds the path segment ".."'],
    ['a command', { v: 'a $(reboot)' }, 'holds "$("'],
    ['a variable', { v: `\${HOME}` }, 'holds "$("'],
    ['a backtick', { v: '`id`' }, 'holds "$("'],
    ['no data', undefined, 'is missing'],
    ['a list as data', ['v'], 'is missing'],
  ])('D8: is refused for good, with the reason: %s', (_, data, reason) => {
    const message = refusalOf(() => argsOf(['{v}'], { data }))
    expect(message).toContain(reason)
    expect(message).toContain('{v}')
  })

  it('takes what is odd and harmless', () => {
    for (const v of ['a..b', '...', 'a/...', '$', '$HOME', "it's", '"', ';rm', 'ä 🎉', 'x'.repeat(8192)]) {
      expect(argsOf(['{v}'], { data: { v } })).toEqual([v])
    }
  })

  it('E4: reaches no prototype, whatever the data', () => {
    const data: unknown = JSON.parse(
      '{"__proto__":"x","constructor":"x","prototype":"x","a":{"__proto__":{"b":"x"}},"l":["x"],"t":"x"}',
    )
    for (const arg of [
      '{__proto__}',
      '{constructor}',
      '{constructor.name}',
      '{prototype}',
      '{toString}',
      '{a.__proto__.b}',
      '{l.length}',
      '{l.0}',
      '{t.length}',
    ])
      expect(refusalOf(() => argsOf([arg], { data }))).toContain('is missing')
  })

  it('without a value of the job is refused too', () => {
    expect(refusalOf(() => argsOf(['{job.group}'], {}))).toContain('{job.group} is missing')
    expect(refusalOf(() => argsOf(['{job.name}'], { name: '--help' }))).toContain('begins with "-"')
  })
})

describe('the names of a job', () => {
  const ids = [
    'a',
    '1',
    'a.b',
    'a..b',
    '..',
    '.',
    'a.',
    'a.lock',
    'a.LOCK',
    '-a',
    'a/b',
    'a b',
    'ä',
    '@{',
    '~^:?*[\\',
    'repeat:x:1',
    '\u007f',
    '\ud800',
    'x'.repeat(64),
    'x'.repeat(65),
    '',
  ]

  it('make branches that git takes, and folders inside the runtime folder', () => {
    for (const name of ids) {
      for (const one of [plan({ job: { id: name } }), plan({ job: { queue: name } })]) {
        expect(one.workspace.git?.branch, JSON.stringify(name)).toSatisfy(isBranch)
        expect(relative('/run/u/sessions', one.folder)).toMatch(/^[^/.][^/]*\/[^/.][^/]*$/)
      }
    }
  })

  it('are those of no other job', () => {
    const plans = ids.map((id) => plan({ job: { id } }))
    expect(new Set(plans.map(({ folder }) => folder)).size).toBe(ids.length)
    // What a hashed name looks like is no name of another job.
    const copied = plan({ job: { id: 'a b' } }).workspace.git?.branch.split('/')[2] ?? ''
    expect(plan({ job: { id: copied } }).workspace.git?.branch).not.toBe(plan({ job: { id: 'a b' } }).workspace.git?.branch)
    expect(plan({ job: { id: '\ud800' } }).folder).not.toBe(plan({ job: { id: '\ud801' } }).folder)
  })

  it('with a NUL, or too long for a variable, are refused for good', () => {
    expect(refusalOf(() => plan({ job: { id: 'a\0' } }))).toContain('holds a NUL')
    expect(refusalOf(() => plan({ job: { id: 'a'.repeat(8193) } }))).toContain('is longer than')
  })
})

describe('whatever the job', () => {
  const nasty = fc.constantFrom(
    '../x',
    '--upload-pack=x',
    '$(x)',
    '-',
    'a\0',
    '`x`',
    `\${x}`,
    'a/../b',
    '..',
    '.lock',
    'HEAD',
    '@',
  )
  const anyId = fc.oneof(nasty, fc.string({ unit: 'binary' }), fc.string({ maxLength: 90 }))
  const text = fc.oneof(nasty, fc.string({ unit: 'binary' }))
  const data = fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom('a', 'b', '__proto__'), fc.oneof(text, fc.jsonValue())))
  const args = fc.array(
    fc.oneof(fc.constantFrom('{a}', '{a.b}', '{b}', '{__proto__}', '{job.id}', '{job.group}', 'x{a}'), fc.string()),
  )

  it('D8: it is refused for good, or only whole arguments change, to what nobody takes for more', () => {
    fc.assert(
      fc.property(anyId, data, args, (id, value, given) => {
        let made: ReturnType<typeof plan>
        try {
          made = plan({ session: { args: given }, job: { id, data: value } })
        } catch (error) {
          expect(error).toBeInstanceOf(LaunchError)
          expect(error).toMatchObject({ permanent: true })
          return
        }
        expect(made.args).toHaveLength(given.length)
        given.forEach((arg, index) => {
          const filled = made.args[index] ?? ''
          if (/^\{[A-Za-z_][A-Za-z0-9_.]*\}$/.test(arg)) expect(filled).not.toMatch(/^-|\p{Cc}|`|\$[({]/u)
          else expect(filled).toBe(arg)
        })
        expect(made.folder).toMatch(/^\/run\/u\/sessions\/agents\/[A-Za-z0-9_+-][A-Za-z0-9._+-]*-7$/)
        expect(made.workspace.path).toBe(`${made.folder}/workspace`)
        // The rules of git check-ref-format for what these characters can make.
        expect(made.workspace.git?.branch).toMatch(/^unstuck\/agents\/(?!\.)(?!.*\.\.)(?!.*\.lock$)(?!.*\.$)[A-Za-z0-9._+-]+$/)
        expect(JSON.parse(made.input)).toEqual(JSON.parse(JSON.stringify(value)))
      }),
      { numRuns: 500 },
    )
  })

  it('two jobs never share a folder or a branch', () => {
    fc.assert(
      fc.property(anyId, anyId, fc.nat(20), fc.nat(20), (one, other, fence, otherFence) => {
        fc.pre(one !== other && !`${one}${other}`.includes('\0'))
        const [a, b] = [plan({ job: { id: one, fence } }), plan({ job: { id: other, fence: otherFence } })]
        expect(a.folder).not.toBe(b.folder)
        expect(a.workspace.git?.branch).not.toBe(b.workspace.git?.branch)
      }),
      { numRuns: 500 },
    )
  })

  it('E5: no message holds a value', () => {
    fc.assert(
      fc.property(fc.constantFrom('-', '../', '$(', '`', '\n', 'x'.repeat(9000)), (before) => {
        for (const v of [`${before}hunter2`, { hunter2: 1 }, ['hunter2']]) {
          expect(refusalOf(() => argsOf(['{v}'], { data: { v } }))).not.toContain('hunter2')
        }
        expect(refusalOf(() => plan({ job: { id: 'hunter2\0' } }))).not.toContain('hunter2')
      }),
    )
  })
})
