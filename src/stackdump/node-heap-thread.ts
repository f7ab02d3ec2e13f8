/** A thread for one deep dump: reads a heap snapshot and answers with the chains in it, so that the sentinel goes on beating. */
import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { type HeapSnapshot, suspendedChains } from './heap-chains.js'

const snapshot = JSON.parse(readFileSync(String(workerData), 'utf8')) as HeapSnapshot
parentPort?.postMessage(suspendedChains(snapshot))
