/** The questions that are answered in a thread of their own. */
import { answer, type RecommendQuestion } from '../../src/recommend/request.js';
import { type PreviewInput, preview } from '../../src/tools/policies/preview.js';
import type { Job } from './worker.js';

export const JOBS: Readonly<Record<string, Job>> = {
  preview: (question) => preview(question as PreviewInput),
  recommend: (question) => answer(question as RecommendQuestion),
};
