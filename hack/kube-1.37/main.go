// Command kube-1.37 holds an older or newer Kubernetes than the super cluster's, for tests of version skew: an API server and
// a controller-manager, and it is the one whose name it is called by, up to the version.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	switch {
	case strings.HasPrefix(name, "kube-apiserver"):
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case strings.HasPrefix(name, "kube-controller-manager"):
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	}
	fmt.Fprintf(os.Stderr, "no component is called %q; link to this file as kube-apiserver-1.37 or kube-controller-manager-1.37\n", name)
	os.Exit(2)
}
