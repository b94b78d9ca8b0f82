// Command cainjector runs cert-manager's injector: it writes authorities into webhook configurations, conversions and
// APIServices that ask for them by an annotation.
package main

import (
	"log"

	"github.com/cert-manager/cert-manager/pkg/api"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	logs "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util"
	corev1 "k8s.io/api/core/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	services "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	ctx := ctrl.SetupSignalHandler()
	ctrl.SetLogger(logs.Log)
	kinds := runtime.NewScheme()
	known := runtime.SchemeBuilder{api.AddToScheme, scheme.AddToScheme, definitions.AddToScheme, services.AddToScheme}
	if err := known.AddToScheme(kinds); err != nil {
		log.Fatalf("kinds: %v", err)
	}
	// Its applies carry the field manager that the user agent names.
	config := util.RestConfigWithUserAgent(ctrl.GetConfigOrDie(), "cainjector")
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  kinds,
		Metrics: server.Options{BindAddress: "0"},
		// Of Secrets only metadata is watched.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		log.Fatalf("no manager: %v", err)
	}
	options := cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
			cainjector.APIServiceName:                     true,
			cainjector.CustomResourceDefinitionName:       true,
		},
	}
	if err := cainjector.RegisterAllInjectors(ctx, manager, options); err != nil {
		log.Fatalf("no injectors: %v", err)
	}
	if err := manager.Start(ctx); err != nil {
		log.Fatalf("the injectors ended: %v", err)
	}
}
