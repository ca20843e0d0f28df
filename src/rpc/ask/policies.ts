/** PolicyObjects, Preview and Recommend of egress.v1. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  PolicyObjectsRequest,
  PolicyObjectsResponse,
  PreviewRequest,
  PreviewResponse,
  RecommendRequest,
  RecommendResponse,
} from '../../proto/edges.js';
import { unary } from '../transport/unary.js';

/** Whoever knows the cluster's objects and the policies in force. Errors are AgentError AGENT or USAGE. */
export interface PolicyView {
  policyObjects(request: PolicyObjectsRequest): PolicyObjectsResponse | Promise<PolicyObjectsResponse>;
  preview(request: PreviewRequest): Promise<PreviewResponse>;
  recommend(request: RecommendRequest): Promise<RecommendResponse>;
}

/** The handlers of PolicyObjects, Preview and Recommend. */
export function policyHandlers(view: PolicyView): UntypedServiceImplementation {
  return {
    PolicyObjects: unary((request: PolicyObjectsRequest) => view.policyObjects(request)),
    Preview: unary((request: PreviewRequest) => view.preview(request)),
    Recommend: unary((request: RecommendRequest) => view.recommend(request)),
  };
}
