/**
 * docker-compose.yml, the Dockerfile and what they mount. Compose itself says whether the file is one; that the pieces fit each
 * other and are safe as they stand is asked here, and what is mounted runs for real, without containers.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parse } from 'yaml'
import { Dispatcher, loadConfig } from '../../src/index.js'
import { composeConfig, composedProject, ROOT, type Service } from '../support/compose.js'
import { launch, scene, until } from '../support/processes.js'

const APP = join(ROOT, 'deploy/compose/app')
const ALL_PROFILES = ['demo', 'alerts']
const OURS = ['supervisor', 'watchdog', 'demo']

/** When Debian's compose has to be fetched first, that takes its time. */
const FETCH_MS = 300_000

function setup() {
  const { services, networks } = composedProject({ profiles: ALL_PROFILES })
  const service = (name: string): Service => {
    const found = services[name]
    if (!found) throw new Error(`docker-compose.yml has no service ${name}`)
    return found
  }
  return { services, networks, service, each: Object.entries(services) }
}

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-compose-test-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const seconds = (duration = '0s') => {
  const { minutes = '0', rest = '0' } = /^(?:(?<minutes>\d+)m)?(?:(?<rest>\d+)s)?$/.exec(duration)?.groups ?? {}
  return 60 * Number(minutes) + Number(rest)
}

describe('docker-compose.yml', { timeout: FETCH_MS }, () => {
  it('is accepted as it stands, and with each profile and the example for secrets of your own', () => {
    expect(composeConfig()).toMatchObject({ code: 0, stderr: '' })
    expect(Object.keys(composedProject({}).services).sort()).toEqual([
      'grafana',
      'prometheus',
      'redis',
      'supervisor',
      'watchdog',
    ])
    expect(setup().each).toHaveLength(7)
    const files = ['docker-compose.yml', 'deploy/compose/own-secrets.yml']
    expect(composeConfig({ files })).toMatchObject({ code: 0, stderr: '' })
  })

  it('is really judged: a key that compose does not know is refused', () => {
    const broken = join(folder(), 'broken.yml')
    const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8')
    writeFileSync(broken, text.replace('stop_grace_period: 45s', 'stop_grace: 45s'))
    expect(composeConfig({ files: [broken] }).code).not.toBe(0)
  })

  it('opens ports to this machine alone, and none of Redis', () => {
    const { each, service } = setup()
    for (const [name, { ports = [] }] of each) for (const port of ports) expect(port.host_ip, name).toBe('127.0.0.1')
    expect(service('redis').ports).toBeUndefined()
    expect(service('watchdog').ports?.[0]?.target).toBe(7373)
  })

  it('keeps Redis on a network that leads nowhere else, for what needs it only', () => {
    const { each, networks } = setup()
    expect(networks['store']?.internal).toBe(true)
    const near = each.filter(([, { networks: on = {} }]) => 'store' in on).map(([name]) => name)
    expect(near.sort()).toEqual(['demo', 'redis', 'supervisor', 'watchdog'])
    expect(Object.keys(setup().service('redis').networks ?? {})).toEqual(['store'])
  })

  it('holds no secret: the watchdog, which others may reach, has its token in a file of a volume that nobody else mounts', () => {
    const { each, service } = setup()
    for (const [name, { environment = {} }] of each) {
      const secrets = Object.keys(environment).filter((key) => /(TOKEN|PASSWORD|SECRET)$/.test(key))
      expect(secrets, name).toEqual([])
    }
    const { UNSTUCK_HOST: host, UNSTUCK_TOKEN_FILE: file = '' } = service('watchdog').environment ?? {}
    expect(host).toBe('0.0.0.0')
    const holders = each.filter(([, { volumes = [] }]) => volumes.some(({ target }) => file.startsWith(`${target}/`)))
    expect(holders.map(([name]) => name)).toEqual(['watchdog'])
  })

  it('lets nobody log in to Grafana with the password that everybody knows', () => {
    expect(setup().service('grafana').environment).toMatchObject({
      GF_AUTH_DISABLE_LOGIN_FORM: 'true',
      GF_AUTH_BASIC_ENABLED: 'false',
      GF_AUTH_ANONYMOUS_ORG_ROLE: 'Viewer',
    })
  })

  it('starts each again, bounds what it takes, asks how it is, and gives it nothing to write to and no rights', () => {
    for (const [name, service] of setup().each) {
      expect(service, name).toMatchObject({ restart: 'unless-stopped', read_only: true, cap_drop: ['ALL'] })
      expect(service.security_opt, name).toEqual(['no-new-privileges:true'])
      expect(Object.keys(service.deploy?.resources.limits ?? {}).sort(), name).toEqual(['cpus', 'memory', 'pids'])
      expect(service.healthcheck?.test[0], name).toMatch(/^CMD/)
      expect(service.logging?.options, name).toHaveProperty('max-size')
      expect(service.stop_grace_period, name).toBeDefined()
    }
  })

  it('starts what needs another when that one is well', () => {
    const { each } = setup()
    const waits = each.flatMap(([name, { depends_on: on = {} }]) =>
      Object.entries(on).map(([other, { condition }]) => `${name} ${other} ${condition}`),
    )
    expect(waits.sort()).toEqual([
      'demo supervisor service_healthy',
      'grafana prometheus service_healthy',
      'prometheus watchdog service_healthy',
      'supervisor redis service_healthy',
      'watchdog redis service_healthy',
    ])
  })

  it('gives a supervisor the time that its drain takes', async () => {
    const { supervisor } = await loadConfig({ cwd: APP, env: {} })
    // After it: a second for signals, two for what is handed back, two for the goodbye, three of last resort.
    expect(seconds(setup().service('supervisor').stop_grace_period)).toBeGreaterThanOrEqual(supervisor.drainMs / 1000 + 8)
  })

  it('mounts what is there, for reading only', () => {
    for (const [name, { volumes = [] }] of setup().each) {
      for (const { type, source, read_only: readOnly } of volumes) {
        if (type !== 'bind') continue
        expect(readdirSync(source), `${name}: ${source}`).not.toEqual([])
        expect(readOnly, `${name}: ${source}`).toBe(true)
      }
    }
  })

  it('is what Prometheus and Grafana look for', () => {
    const { service, services } = setup()
    const scrapes = parse(readFileSync(join(ROOT, 'deploy/prometheus/prometheus.yml'), 'utf8')).scrape_configs as {
      dns_sd_configs?: { names: string[]; port: number }[]
    }[]
    const targets = scrapes.flatMap(({ dns_sd_configs: found = [] }) =>
      found.map(({ names, port }) => `${names.join()}:${port}`),
    )
    expect(targets.sort()).toEqual(['supervisor:7374', 'watchdog:7373'])
    for (const target of targets) {
      const [name = '', port = ''] = target.split(':')
      expect(service(name).healthcheck?.test.at(-1), name).toBe(port)
      expect(Object.keys(service(name).networks ?? {})).toContain(Object.keys(service('prometheus').networks ?? {})[0])
    }
    const folders = join(ROOT, 'deploy/grafana/provisioning/dashboards')
    const [file = ''] = readdirSync(folders)
    const { providers } = parse(readFileSync(join(folders, file), 'utf8')) as { providers: { options: { path: string } }[] }
    const mounted = service('grafana').volumes?.map(({ target }) => target)
    for (const { options } of providers) expect(mounted).toContain(options.path)
    const sources = parse(readFileSync(join(ROOT, 'deploy/grafana/provisioning/datasources/prometheus.yml'), 'utf8'))
    expect(services).toHaveProperty(new URL(sources.datasources[0].url).hostname)
  })
})

describe('the containers’ config', { timeout: FETCH_MS }, () => {
  it('is valid with the environment that each gets from image and compose file', async () => {
    const { service } = setup()
    const token = join(folder(), 'token')
    writeFileSync(token, 'a-token\n')
    for (const name of OURS) {
      const own = service(name).environment ?? {}
      const env = { ...imageEnvironment(), ...own, ...('UNSTUCK_TOKEN_FILE' in own ? { UNSTUCK_TOKEN_FILE: token } : {}) }
      const config = await loadConfig({ cwd: APP, env })
      expect(config.redis.url, name).toBe('redis://redis:6379')
      expect(config.supervisor.host, name).toBe('0.0.0.0')
      expect(config.http, name).toMatchObject(
        name === 'watchdog'
          ? { host: '0.0.0.0', token: 'a-token', openMetrics: true }
          : { host: '127.0.0.1', token: undefined },
      )
    }
  })

  it('runs: the demo feeds, the jobs complete, and the feeder ends clean', async () => {
    const { redis, client, supervisor, dir } = await scene()
    await supervisor(join(APP, 'unstuck.config.mjs'), ['--redis', redis.url])
    const env = { REDIS_URL: redis.url, TMPDIR: dir }
    const demo = launch(process.execPath, [join(APP, 'demo.mjs')], { cwd: APP, env })
    await until(
      () => client.zcard('bull:checksums:completed'),
      (count) => count >= 40,
    )
    const dispatcher = await Dispatcher.connect({ redis: { url: redis.url } })
    onTestFinished(() => dispatcher.close())
    const { jobs } = await dispatcher.jobs('saboteurs')
    expect(jobs.map(({ name }) => name)).toContain('lost-reply')
    expect(existsSync(join(dir, 'fed'))).toBe(true)
    demo.kill('SIGTERM')
    expect(await demo.exited).toBe(0)
  })
})

describe('with-token', () => {
  const run = (file: string, ...args: string[]) =>
    promisify(execFile)(join(ROOT, 'deploy/compose/with-token.sh'), args, {
      env: { PATH: process.env['PATH'], UNSTUCK_TOKEN_FILE: file },
    })

  it('makes a token that only its user can read, says where it is and not what it is, and runs the command', async () => {
    const file = join(folder(), 'token')
    const { stdout, stderr } = await run(file, 'echo', 'two words', '$HOME')
    const token = readFileSync(file, 'utf8').trim()
    expect(token).toMatch(/^[\w-]{43}$/)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(stdout).toBe('two words $HOME\n')
    expect(stderr).toContain(file)
    expect(stderr).not.toContain(token)
  })

  it('keeps one that is there, in a folder that cannot be written too', async () => {
    const dir = folder()
    writeFileSync(join(dir, 'token'), 'mine')
    const { stderr } = await run(join(dir, 'token'), 'true')
    expect(stderr).toBe('')
    expect(readFileSync(join(dir, 'token'), 'utf8')).toBe('mine')
    expect(readdirSync(dir)).toEqual(['token'])
  })

  it('gives replicas that start at once the same one', async () => {
    const dir = folder()
    const file = join(dir, 'token')
    const seen = await Promise.all(Array.from({ length: 8 }, () => run(file, 'cat', file)))
    expect(new Set(seen.map(({ stdout }) => stdout)).size).toBe(1)
    expect(seen.filter(({ stderr }) => stderr !== '')).toHaveLength(1)
    expect(readdirSync(dir)).toEqual(['token'])
  })

  it('fails when it can make none, and does not run the command', async () => {
    const ran = join(folder(), 'ran')
    await expect(run(join(folder(), 'missing/token'), 'touch', ran)).rejects.toThrow()
    expect(existsSync(ran)).toBe(false)
  })
})

describe('Dockerfile', () => {
  it('copies what is there, and .dockerignore lets it through', () => {
    const ignored = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n')
    const allowed = ignored.filter((line) => line.startsWith('!')).map((line) => line.slice(1))
    expect(ignored).toContain('*')
    const sources = instructions('COPY').flatMap((words) => {
      const paths = words.filter((word) => !word.startsWith('--'))
      return words.some((word) => word.startsWith('--from=')) ? [] : paths.slice(0, -1)
    })
    expect(sources).not.toEqual([])
    for (const source of sources) expect(statSync(join(ROOT, source)), source).toBeDefined()
    expect([...new Set(sources)].sort()).toEqual(allowed.sort())
  })

  it('runs as somebody who is not root, in each of its targets', () => {
    const stages = instructions('FROM').map((words) => words.at(-1))
    expect(stages.slice(-2)).toEqual(['sessions', 'unstuck'])
    for (const target of ['sessions', 'unstuck']) {
      const stage = dockerfile()
        .split(new RegExp(`^FROM \\S+ AS ${target}$`, 'm'))[1]
        ?.split(/^FROM /m)[0]
      expect(stage, target).toMatch(/^USER node$/m)
      expect(stage, target).toMatch(/^ENTRYPOINT \[.*"unstuck"\]$/m)
    }
  })

  it('installs from the lock file, without install scripts and with a cache', () => {
    const installs = instructions('RUN').filter((words) => words.includes('npm'))
    expect(installs).toHaveLength(2)
    for (const words of installs) {
      expect(words).toContain('ci')
      expect(words).toContain('--ignore-scripts')
      expect(words[0]).toMatch(/^--mount=type=cache,/)
    }
  })

  it('names a Node that the package runs on, and the health check that asks whatever runs', () => {
    const major = Number(/^ARG NODE=(\d+)/m.exec(dockerfile())?.[1])
    const { engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { engines: { node: string } }
    expect(major).toBeGreaterThanOrEqual(Number(/\d+/.exec(engines.node)?.[0]))
    expect(dockerfile()).toMatch(/^HEALTHCHECK .* CMD \["unstuck", "healthcheck"\]$/m)
  })
})

function dockerfile(): string {
  return readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
}

/** The words after each instruction of a kind. */
function instructions(kind: string): string[][] {
  return [...dockerfile().matchAll(new RegExp(`^${kind} (.*)$`, 'gm'))].map((match) => (match[1] ?? '').split(/\s+/))
}

function imageEnvironment(): Record<string, string> {
  return Object.fromEntries(
    instructions('ENV')
      .flat()
      .map((pair) => pair.split('=') as [string, string]),
  )
}
