//! Reading secrets from servers that stand in for Lambda's extension and for AWS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:otlp-AbCdEf";

/// Answers every request with a status and a body, and reports what came.
async fn serve(status: u16, body: &'static str) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            // Both requests come in one piece: their heads and bodies are far below a packet.
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let _ = seen.send(String::from_utf8(request).unwrap());
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, requests)
}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn aws(extension: u16, service: Option<u16>) -> AwsSettings {
    let endpoint = service.map(|port| format!("http://127.0.0.1:{port}"));
    AwsSettings {
        region: Some("us-east-1".into()),
        access_key_id: Some("AKID".into()),
        secret_access_key: Some("very secret".into()),
        session_token: Some("the token".into()),
        secrets_extension_port: extension,
        secrets_manager_endpoint: endpoint.clone(),
        ssm_endpoint: endpoint,
    }
}

async fn read_by(reference: &str, aws: &AwsSettings) -> Result<String, String> {
    read(reference, aws, &ProxySettings::default(), SystemTime::now()).await
}

#[tokio::test]
async fn the_extension_is_asked_first() {
    let (port, mut requests) = serve(200, r#"{"SecretString":"{\"key\":\"v\"}"}"#).await;
    assert_eq!(
        read_by(&format!("{ARN}#key"), &aws(port, None))
            .await
            .as_deref(),
        Ok("v")
    );
    let request = requests.recv().await.unwrap();
    assert!(
        request.starts_with("GET /secretsmanager/get?secretId=arn%3Aaws"),
        "{request}"
    );
    assert!(
        request.contains("x-aws-parameters-secrets-token: the token\r\n"),
        "{request}"
    );
    let (port, mut requests) = serve(200, r#"{"Parameter":{"Value":"w"}}"#).await;
    assert_eq!(
        read_by("ssm:/a/b", &aws(port, None)).await.as_deref(),
        Ok("w")
    );
    let request = requests.recv().await.unwrap();
    let path = "GET /systemsmanager/parameters/get?name=%2Fa%2Fb&withDecryption=true HTTP/1.1\r\n";
    assert!(request.starts_with(path), "{request}");
}

#[tokio::test]
async fn aws_is_asked_where_no_extension_is() {
    let (service, mut requests) = serve(200, r#"{"SecretString":"v"}"#).await;
    assert_eq!(
        read_by(ARN, &aws(closed_port().await, Some(service)))
            .await
            .as_deref(),
        Ok("v")
    );
    let request = requests.recv().await.unwrap();
    for line in [
        "POST / HTTP/1.1\r\n",
        "x-amz-target: secretsmanager.GetSecretValue\r\n",
        "x-amz-security-token: the token\r\n",
        "content-type: application/x-amz-json-1.1\r\n",
        // The region is the secret's own, not the function's.
        "/eu-west-1/secretsmanager/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=",
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    let (service, mut requests) = serve(200, r#"{"Parameter":{"Value":"w"}}"#).await;
    assert_eq!(
        read_by("ssm:/a", &aws(closed_port().await, Some(service)))
            .await
            .as_deref(),
        Ok("w")
    );
    let request = requests.recv().await.unwrap();
    assert!(
        request.contains("x-amz-target: AmazonSSM.GetParameter\r\n"),
        "{request}"
    );
    assert!(request.contains("/us-east-1/ssm/aws4_request"), "{request}");
}

#[tokio::test]
async fn failures_say_which_way_and_why() {
    let refusal = r#"{"__type":"com.amazon#AccessDeniedException","Message":"no kms:Decrypt"}"#;
    let (service, _requests) = serve(400, refusal).await;
    let why = read_by(ARN, &aws(closed_port().await, Some(service)))
        .await
        .unwrap_err();
    assert!(
        why.contains("AccessDeniedException: no kms:Decrypt") && why.contains(ARN),
        "{why}"
    );
    assert!(
        !why.contains("very secret") && !why.contains("the token"),
        "{why}"
    );

    let outside = AwsSettings {
        secrets_extension_port: 1,
        ..AwsSettings::default()
    };
    let why = read_by(ARN, &outside).await.unwrap_err();
    assert!(why.contains("AWS_ACCESS_KEY_ID"), "{why}");

    let (service, _requests) = serve(200, r#"{"SecretBinary":"AA=="}"#).await;
    let why = read_by(ARN, &aws(closed_port().await, Some(service)))
        .await
        .unwrap_err();
    assert!(why.contains("no text value"), "{why}");

    let why = read_by("arn:aws:s3:::bucket", &outside).await.unwrap_err();
    assert!(why.contains("no ARN of a secret"), "{why}");
}
