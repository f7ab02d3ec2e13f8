/** A Nest application with a processor of `@nestjs/bullmq`, and the one line that has its worker watched. */
import { BullModule, getQueueToken, Processor, WorkerHost } from '@nestjs/bullmq'
import { Module, type OnApplicationBootstrap } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { Job, Queue } from 'bullmq'
import { step } from 'unstuck/handler'
import { watchWorker } from 'unstuck/watch'

@Processor('reports')
class ReportProcessor extends WorkerHost implements OnApplicationBootstrap {
  onApplicationBootstrap() {
    // The one line. Nest has made the worker by now; before, there is none.
    watchWorker(this.worker, { name: 'reports' })
  }

  async process({ data }: Job<{ seconds: number }>): Promise<number> {
    return step('add up', () => addUp(data.seconds))
  }
}

/** A sum that takes its time without a pause: meanwhile nothing else of this process runs, its timers and answers included. */
function addUp(seconds: number): number {
  const end = Date.now() + seconds * 1000
  let sum = 0
  while (Date.now() < end) sum += Math.sqrt(sum + 1)
  return sum
}

@Module({
  imports: [BullModule.forRoot({ connection: { url: process.env.REDIS_URL } }), BullModule.registerQueue({ name: 'reports' })],
  providers: [ReportProcessor],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule)
// Closes the worker on SIGTERM, which says goodbye to the watchdogs too.
app.enableShutdownHooks()

const queue = app.get<Queue>(getQueueToken('reports'))
await queue.add('report', { seconds: 0 }, { jobId: 'small' })
await queue.add('report', { seconds: 20 }, { jobId: 'large' })
