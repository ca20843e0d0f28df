/** Where agents are found. The manifests of daemonset/ say the same. */
export const AGENT_NAMESPACE = 'egress-system';
export const AGENT_SELECTOR = 'app.kubernetes.io/name=egress-agent';
export const AGENT_PORT = 4245;
