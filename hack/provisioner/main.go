// Command provisioner makes local volumes for the development cluster: a folder on the node that the pod was scheduled
// to, under the folder that --root names with {node} in it. All nodes are on this machine, so the program makes and
// removes the folders itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// hostname is the label by which a local volume is tied to its node; here it is the node's name.
const hostname = "kubernetes.io/hostname"

type provisioner struct {
	root string
}

func (p *provisioner) folder(node, volume string) string {
	return filepath.Join(strings.ReplaceAll(p.root, "{node}", node), volume)
}

// Provision makes the folder and says where it is.
func (p *provisioner) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim, node := options.PVC, options.SelectedNodeName
	if node == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("no node is chosen: the class must wait for the first consumer")
	}
	if mode := claim.Spec.VolumeMode; mode != nil && *mode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("there are no block devices: ask for volumeMode Filesystem")
	}
	folder := p.folder(node, options.PVName)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// A umask doesn't hold here: any user of a pod may write.
	if err := os.Chmod(folder, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	term := v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{
		{Key: hostname, Operator: v1.NodeSelectorOpIn, Values: []string{node}},
	}}
	volume := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			NodeAffinity:                  &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{term}}},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: folder}},
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the folder with all that is in it.
func (p *provisioner) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	local := volume.Spec.Local
	if local == nil || filepath.Base(local.Path) != volume.Name {
		return fmt.Errorf("volume %s isn't one of this program's", volume.Name)
	}
	return os.RemoveAll(local.Path)
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	root := flag.String("root", "", "folder of the volumes of {node}")
	name := flag.String("name", "sublet.dev/local", "name of the provisioner, as StorageClasses give it")
	klog.InitFlags(nil)
	flag.Parse()
	if !strings.Contains(*root, "{node}") {
		return fmt.Errorf("--root must contain {node}")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	// The defaults are for clusters shared by many; here it would be what tests wait for.
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	controller.NewProvisionController(ctx, client, *name, &provisioner{*root}, controller.LeaderElection(false)).Run(ctx)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}
