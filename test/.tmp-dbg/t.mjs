import { isMainThread, Worker } from 'node:worker_threads'

if (isMainThread) {
  const w = new Worker(new URL(import.meta.url))
  const t = setTimeout(() => {
    console.log('hangs')
    w.terminate()
  }, 5000)
  w.on('exit', () => clearTimeout(t))
  w.on('error', console.error)
} else {
  console.log('features', process.features.typescript)
  const { loadHandler } = await import('../../dist/dispatch/node-load-handler.js')
  try {
    const h = await loadHandler(new URL('./jobs.ts', import.meta.url).pathname)
    console.log(await h({ data: { n: 7 } }))
  } catch (e) {
    console.log(e.message)
  }
}
