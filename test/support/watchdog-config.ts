/** A config with short thresholds, for a watchdog in a test. */
import type { Config } from '../../src/platform/config.js'

export function testConfig({ redisUrl, http = {} }: { redisUrl: string; http?: Partial<Config['http']> }): Config {
  return {
    redis: { url: redisUrl, prefix: '{unstuck}', bullPrefix: 'bull' },
    queues: Object.fromEntries(
      ['img', 'mail'].map((name) => [
        name,
        {
          handler: undefined,
          session: undefined,
          threads: 1,
          jobsPerThread: 1,
          concurrency: 1,
          attempts: {
            max: 8,
            backoffMs: [30_000],
            jitter: 0.2,
            cooldownMs: 1_800_000,
            maxResets: 5,
            slowRetryMs: 21_600_000,
            provenAfterMs: 60_000,
          },
          release: { perSecond: 10 },
          breaker: { failures: 20, probeMs: 60_000 },
          silentAfterMs: 300_000,
          launchTimeoutMs: 90_000,
          orphans: 'kill',
          notMovingAfterMs: 600,
          noWorkerAfterMs: 600,
          lockDurationMs: 30_000,
          onStuck: 'report',
        },
      ]),
    ),
    loops: { pollIntervalMs: 5000, pollStaleThresholdMs: 60_000, startGraceMs: 30_000 },
    heartbeat: { intervalMs: 200, timeoutMs: 1000, loopBlockedMs: 5000, threadBlockedMs: 10_000 },
    watchdog: {
      intervalMs: 200,
      goneAfterMs: 600_000,
      redisUnreachableAfterMs: 1000,
      dumpOnStuck: false,
      deadmanUrl: undefined,
    },
    http: { host: '127.0.0.1', port: 0, token: undefined, readToken: undefined, openMetrics: false, ...http },
    supervisor: { name: undefined, group: undefined, host: '127.0.0.1', port: 0, drainMs: 1000, runtimeDir: '/nowhere' },
    log: { level: 'silent', format: 'json' },
    telemetry: { tracing: false },
  }
}
