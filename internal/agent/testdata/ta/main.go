// SPDX-License-Identifier: Apache-2.0

// Command ta is a Trusted Application for tests. It answers a question with its data and the question; the question "attest" is
// answered with Evidence, "exit" ends the program, and "network" tells what it finds outside its sandbox.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	listen := os.Getenv("SEALIFT_LISTEN")
	if listen == "" {
		question, _ := io.ReadAll(os.Stdin)
		io.WriteString(os.Stdout, answer(string(question)))
		return
	}
	ln, err := net.Listen("unix", listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer conn.Close()
			question, _ := io.ReadAll(conn)
			io.WriteString(conn, answer(string(question)))
		}()
	}
}

func answer(question string) string {
	switch question {
	case "attest":
		return attest("a nonce of this TA")
	case "exit":
		os.Exit(3)
	case "network":
		_, err1 := net.Dial("tcp", "127.0.0.1:80")
		_, err2 := os.ReadDir("/store")
		return fmt.Sprint(err1 != nil, err2 != nil)
	}
	var data []string
	files, _ := filepath.Glob(filepath.Join(os.Getenv("SEALIFT_PD"), "*"))
	for _, f := range files {
		content, _ := os.ReadFile(f)
		data = append(data, filepath.Base(f)+"="+string(content))
	}
	return strings.Join(data, ",") + "|" + strings.Join(os.Args[1:], " ") + "|" + question
}

func attest(nonce string) string {
	conn, err := net.Dial("unix", os.Getenv("SEALIFT_ATTEST"))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	io.WriteString(conn, nonce)
	conn.(*net.UnixConn).CloseWrite()
	bundle, _ := io.ReadAll(conn)
	return string(bundle)
}
