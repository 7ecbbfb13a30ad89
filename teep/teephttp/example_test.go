// SPDX-License-Identifier: Apache-2.0

package teephttp_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"sealift/teep/teephttp"
)

type exampleTAM struct{}

func (exampleTAM) Connect(context.Context, string) ([]byte, error) { return []byte("question"), nil }

func (exampleTAM) Message(_ context.Context, hint string, msg []byte) ([]byte, error) {
	fmt.Printf("TAM: %s from %s\n", msg, hint)
	return nil, nil // the session is done
}

type exampleAgent struct{}

func (exampleAgent) ProcessTeepMessage(_ context.Context, msg []byte) ([]byte, error) {
	fmt.Printf("Agent: %s\n", msg)
	return []byte("answer"), nil
}

func (exampleAgent) ProcessError(_ context.Context, err error) { fmt.Println(err) }

// A session between an Agent and a TAM over HTTP; neither end of the transport looks into a message.
func ExampleClient() {
	server := httptest.NewServer(teephttp.Handler(exampleTAM{}, teephttp.Options{Prefix: "/tam"}))
	defer server.Close()
	c := &teephttp.Client{HTTP: server.Client()}
	if err := c.Session(context.Background(), server.URL+"/tam/device-1", exampleAgent{}, nil); err != nil {
		fmt.Println(err)
	}
	// Output:
	// Agent: question
	// TAM: answer from device-1
}
