// Command nethttp serves an action with net/http: AUTHIO_ACTION_SECRETS=asec_… go run ./examples/nethttp
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"authio.example/actions"
	"authio.example/actions/examples/triggers"
)

func main() {
	handler, err := actions.Handler(strings.Split(os.Getenv("AUTHIO_ACTION_SECRETS"), ","), triggers.Decide)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/authio-action", handler)
	server := &http.Server{Addr: "127.0.0.1:8000", Handler: mux, ReadTimeout: 5 * time.Second}
	log.Print("listening on http://", server.Addr)
	log.Fatal(server.ListenAndServe())
}
