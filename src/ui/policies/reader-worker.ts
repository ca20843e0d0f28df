/** The other side of reader.ts: answers one question, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { located } from './positions.js';
import type { Asked } from './reader.js';
import { reading } from './reading.js';

const { text, problems } = workerData as Asked;
parentPort?.postMessage(problems ? located(text, problems) : reading(text));
