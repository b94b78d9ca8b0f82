{{- /*
What values change of an object that files/install.yaml has. Each takes the object apart from which it is called, changes it in
place and writes nothing.
*/}}

{{- /* A daemon's Deployment. What its values leave empty stays. */}}
{{- define "sublet.deployment" }}
  {{- $values := .values }}
  {{- $pod := .object.spec.template.spec }}
  {{- $container := index $pod.containers 0 }}
  {{- $daemon := index $values.daemons $container.name }}
  {{- $program := $container.image | splitList "/" | last | splitList ":" | first }}
  {{- $tag := $values.image.tag | default .version }}
  {{- $_ := set $container "image" (printf "%s/%s:%s" $values.image.registry $program $tag) }}
  {{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy }}
  {{- $_ := set $container "resources" (mergeOverwrite $container.resources $daemon.resources) }}
  {{- with $daemon.args }}{{ $_ := set $container "args" . }}{{ end }}
  {{- with $daemon.env }}{{ $_ := set $container "env" (concat $container.env .) }}{{ end }}
  {{- if and $values.clusterApi.enabled (eq $container.name "manager") }}
    {{- $variable := dict "name" "SUBLET_CLUSTER_API" "value" "true" }}
    {{- $_ := set $container "env" (append $container.env $variable) }}
  {{- end }}
  {{- with $values.image.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
  {{- with $daemon.nodeSelector }}{{ $_ := set $pod "nodeSelector" . }}{{ end }}
  {{- with $daemon.tolerations }}
    {{- /* Of two for one taint the shorter would hold, so one of the values takes the place of the daemon's own. */}}
    {{- $all := . }}
    {{- $said := dict }}
    {{- range . }}{{ $_ := set $said (.key | default "") "" }}{{ end }}
    {{- range $pod.tolerations }}{{ if not (hasKey $said .key) }}{{ $all = append $all . }}{{ end }}{{ end }}
    {{- $_ := set $pod "tolerations" $all }}
  {{- end }}
  {{- with $daemon.affinity }}{{ $_ := set $pod "affinity" . }}{{ end }}
  {{- with $daemon.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end }}
  {{- with $daemon.podAnnotations }}{{ $_ := set $.object.spec.template.metadata "annotations" . }}{{ end }}
  {{- if hasKey $daemon "replicas" }}
    {{- /* How many somebody made it meanwhile stays, as `sublet install` has it. */}}
    {{- $live := lookup "apps/v1" "Deployment" .object.metadata.namespace .object.metadata.name }}
    {{- $replicas := $daemon.replicas | default (dig "spec" "replicas" .object.spec.replicas $live) }}
    {{- $_ := set .object.spec "replicas" (int $replicas) }}
  {{- end }}
{{- end }}

{{- /* The Service of the front door. */}}
{{- define "sublet.front-door" }}
  {{- $door := .values.frontDoor }}
  {{- $spec := .object.spec }}
  {{- /* By another type all clients would be out. */}}
  {{- $live := lookup "v1" "Service" .object.metadata.namespace .object.metadata.name }}
  {{- $_ := set $spec "type" ($door.type | default (dig "spec" "type" $spec.type $live)) }}
  {{- with $door.annotations }}{{ $_ := set $.object.metadata "annotations" . }}{{ end }}
  {{- with $door.nodePort }}{{ $_ := set (index $spec.ports 0) "nodePort" (int .) }}{{ end }}
  {{- with $door.loadBalancerClass }}{{ $_ := set $spec "loadBalancerClass" . }}{{ end }}
  {{- with $door.loadBalancerSourceRanges }}{{ $_ := set $spec "loadBalancerSourceRanges" . }}{{ end }}
{{- end }}

{{- /* An object that stays when the release is uninstalled. */}}
{{- define "sublet.kept" }}
  {{- $annotations := .metadata.annotations | default dict }}
  {{- $_ := set .metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") $annotations) }}
{{- end }}
