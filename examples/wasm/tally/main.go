// SPDX-License-Identifier: Apache-2.0

//go:build wasip1

// Tally is a TA as a WebAssembly module, in two forms.
//
//	GOOS=wasip1 GOARCH=wasm go build -o tally.wasm ./examples/wasm/tally                          a command: serve = "stdio"
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o tally.wasm ./examples/wasm/tally      a reactor: serve = "socket"
//
// Each request is a line of text. The answer says how often that text was asked for, counts the lines of the released data
// that hold it, and gives the text's SHA-256. As a reactor it keeps its counts from request to request.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sealift/examples/wasm/tee"
)

var asked = map[string]int{}

func main() {
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// handle is called for each connection of a reactor.
//
//go:wasmexport sealift_handle
func handle() int32 {
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		return 1
	}
	return 0
}

func answer(r io.Reader, w io.Writer) error {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	text := strings.TrimSpace(line)
	asked[text]++
	n, err := count(text)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "asked %d, lines %d, sha256 %x\n", asked[text], n, tee.SHA256([]byte(text)))
	return err
}

// count counts the lines of the released data that hold text.
func count(text string) (n int, err error) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("SEALIFT_PD"), "*"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if text != "" && strings.Contains(line, text) {
				n++
			}
		}
	}
	return n, nil
}
