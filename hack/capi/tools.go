//go:build tools

// Package main keeps in go.mod what is built from this module: Cluster API's core controllers and its command line.
package main

import (
	_ "sigs.k8s.io/cluster-api"
	_ "sigs.k8s.io/cluster-api/cmd/clusterctl"
)
