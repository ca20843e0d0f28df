/**
 * ApplicationNetworkPolicy of EKS Auto Mode (networking.k8s.aws/v1alpha1; api/v1alpha1 of
 * amazon-network-policy-controller-k8s): a NetworkPolicy whose egress peers may be domain names. Its rules unite with
 * those of the NetworkPolicies that select the same pod. The cluster-wide kind of the group is a ClusterNetworkPolicy.
 */
import { apiGroup } from '../../identity/kinds.js';
import { type Dialect, selfAndOwnNode } from '../base/dialect.js';
import { compileSchema } from '../base/schema.js';
import { understandVariant, type Variant } from './index.js';
import { applicationNetworkPolicySchema } from './schema.js';

const NAME = 'applicationnetworkpolicy';
const KIND = 'ApplicationNetworkPolicy';

const variant: Variant = {
  dialect: NAME,
  apiVersion: 'networking.k8s.aws/v1alpha1',
  validate: compileSchema(applicationNetworkPolicySchema),
  implicit: selfAndOwnNode({ dialect: NAME, kind: KIND, name: '*' }),
};

export const applicationNetworkPolicy: Dialect = {
  name: NAME,
  claims: ({ apiVersion, kind }) => kind === KIND && apiGroup(apiVersion) === 'networking.k8s.aws',
  understand: (raw) => understandVariant(variant, raw),
};
