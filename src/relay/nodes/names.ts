/** The namespace, labels and port of the agents' pods. The manifests in daemonset/ use the same. */
export const AGENT_NAMESPACE = 'egress-system';
export const AGENT_SELECTOR = 'app.kubernetes.io/name=egress-agent';
export const AGENT_PORT = 4245;
