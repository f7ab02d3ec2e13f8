/** Scenes with queues of sessions: a repository, an agent that notes what it does, and what is left of it all afterwards. */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { SessionInput } from '../../src/platform/config-schema.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import type { Scene } from './processes.js'

export const QUEUE = 'agents'
export const k = queueKeys('bull', QUEUE)

/** Runs git in a folder, with a name of its own and no config of the machine. */
export function git(cwd: string, ...args: string[]): string {
  const env = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' }
  const who = ['-c', 'user.name=Test', '-c', 'user.email=test@localhost', '-c', 'init.defaultBranch=main']
  return execFileSync('git', [...who, ...args], { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
}

/** A repository with one commit. */
export function repository(dir: string, name = 'repo'): string {
  const path = join(dir, name)
  mkdirSync(path)
  git(path, 'init', '-q')
  git(path, 'commit', '-q', '--allow-empty', '-m', 'first')
  return path
}

export interface AgentRun {
  readonly what: string
  readonly job: string
  readonly fence: number
  readonly pid: number
}

/** An agent that notes its start and end in `runs`, and does between what the script says. */
export function agentScene(stage: Scene) {
  const runsFile = join(stage.dir, 'runs')
  return {
    /** @returns the session part of a queue's config, whose command runs this script */
    session(script: string, session: object = {}): SessionInput {
      const path = join(stage.dir, 'agent.sh')
      const note = (what: string) => `echo ${what} "$UNSTUCK_JOB_ID" "$UNSTUCK_FENCE" $$ >> "$RUNS"\n`
      writeFileSync(path, `#!/bin/sh\n${note('start')}${script}\n${note('end')}`)
      chmodSync(path, 0o755)
      return { command: path, env: { RUNS: runsFile, ...GIT_IDENTITY }, ...session }
    },
    runs(): AgentRun[] {
      if (!existsSync(runsFile)) return []
      return readFileSync(runsFile, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => {
          const [what = '', job = '', fence, pid] = line.split(' ')
          return { what, job, fence: Number(fence), pid: Number(pid) }
        })
    },
    release: () => writeFileSync(join(stage.dir, 'release'), ''),
    /** A piece of script that waits until `release`. */
    untilReleased: `while [ ! -e '${join(stage.dir, 'release')}' ]; do sleep 0.05; done`,
    /** Folders of sessions that are still there. */
    folders(): string[] {
      const path = join(stage.dir, '.unstuck', 'run', 'sessions', QUEUE)
      return existsSync(path) ? readdirSync(path) : []
    },
    records: () => stage.client.hgetall(k.sessions(hostname())),
  }
}

const GIT_IDENTITY = {
  GIT_AUTHOR_NAME: 'Agent',
  GIT_AUTHOR_EMAIL: 'agent@localhost',
  GIT_COMMITTER_NAME: 'Agent',
  GIT_COMMITTER_EMAIL: 'agent@localhost',
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
