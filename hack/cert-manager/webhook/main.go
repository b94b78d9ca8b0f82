// Command webhook runs cert-manager's webhook server, which checks its kinds before they are stored. It makes its own
// serving certificate, and keeps the authority of it in a Secret.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/cert-manager/cert-manager/internal/webhook"
	logs "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"
	"github.com/spf13/pflag"
)

func main() {
	config, err := options.NewWebhookConfiguration()
	if err != nil {
		log.Fatalf("no defaults: %v", err)
	}
	flags := pflag.NewFlagSet("webhook", pflag.ExitOnError)
	options.AddConfigFlags(flags, config)
	if err := flags.Parse(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server, err := webhook.NewCertManagerWebhookServer(logs.Log, *config)
	if err != nil {
		log.Fatalf("the server can't be made: %v", err)
	}
	if err := server.Run(ctx); err != nil {
		log.Fatalf("the server ended: %v", err)
	}
}
