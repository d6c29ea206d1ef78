# The stack of template.yaml: HTTP API -> producer -> orders queue -> consumer -> dead-letter queue -> its consumer.

locals {
  # Seconds. A queue's visibility timeout must be at least six times its consumer's timeout.
  timeout_seconds    = 10
  visibility_seconds = 6 * local.timeout_seconds

  has_secret = var.headers_secret_arn != ""

  extension = merge(
    {
      THROUGHLINE_ENDPOINT  = var.otlp_endpoint
      THROUGHLINE_PROTOCOL  = var.otlp_protocol
      THROUGHLINE_FLUSH     = var.flush_strategy
      THROUGHLINE_LOG_LEVEL = var.log_level
    },
    # The extension reads the secret at run time: its value is in no state file and in no environment.
    local.has_secret ? { THROUGHLINE_HEADERS = "${var.header_name}=${var.headers_secret_arn}#${var.header_name}" } : {},
  )

  reads_secret = local.has_secret ? {
    headers_secret = { actions = ["secretsmanager:GetSecretValue"], resource = var.headers_secret_arn }
  } : {}
  consumes = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]

  # Partial answers in the function and in its mapping stand and fall together: a partial answer under a mapping
  # without the setting makes Lambda delete the messages that failed.
  partial_batch_environment = { THROUGHLINE_PARTIAL_BATCH = "1" }
  partial_batch_responses   = ["ReportBatchItemFailures"]
}

resource "aws_lambda_layer_version" "throughline" {
  layer_name               = "${var.name}-throughline-${var.architecture}"
  description              = "The Throughline extension"
  filename                 = var.layer_zip
  source_code_hash         = filebase64sha256(var.layer_zip)
  compatible_architectures = [var.architecture]
}

# === The queues ===

resource "aws_sqs_queue" "orders" {
  name                       = var.name
  visibility_timeout_seconds = local.visibility_seconds
  sqs_managed_sse_enabled    = true
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.max_receive_count
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                       = "${var.name}-dead-letters"
  visibility_timeout_seconds = local.visibility_seconds
  sqs_managed_sse_enabled    = true
  message_retention_seconds  = 1209600 # 14 days, the longest there is
}

resource "aws_sqs_queue_policy" "only_over_tls" {
  for_each = {
    orders       = { url = aws_sqs_queue.orders.url, arn = aws_sqs_queue.orders.arn }
    dead_letters = { url = aws_sqs_queue.dead_letters.url, arn = aws_sqs_queue.dead_letters.arn }
  }
  queue_url = each.value.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = each.value.arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

# === The producer ===

module "producer" {
  source             = "./function"
  name               = "${var.name}-producer"
  zip                = var.function_zips.producer
  service_name       = "orders-producer"
  architecture       = var.architecture
  layer_arn          = aws_lambda_layer_version.throughline.arn
  timeout_seconds    = local.timeout_seconds
  log_retention_days = var.log_retention_days
  environment        = merge(local.extension, { ORDERS_QUEUE_URL = aws_sqs_queue.orders.url })
  statements = merge(local.reads_secret, {
    send = { actions = ["sqs:SendMessage"], resource = aws_sqs_queue.orders.arn } # allows SendMessageBatch too
  })
}

resource "aws_apigatewayv2_api" "orders" {
  name          = var.name
  description   = "Takes orders"
  protocol_type = "HTTP"
}

resource "aws_apigatewayv2_integration" "orders" {
  api_id                 = aws_apigatewayv2_api.orders.id
  integration_type       = "AWS_PROXY"
  integration_uri        = module.producer.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "orders" {
  api_id             = aws_apigatewayv2_api.orders.id
  route_key          = "POST /orders"
  target             = "integrations/${aws_apigatewayv2_integration.orders.id}"
  authorization_type = "AWS_IAM" # callers sign their requests; nobody else can put orders into the queue
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.orders.id
  name        = "$default"
  auto_deploy = true
  default_route_settings {
    throttling_burst_limit = 20
    throttling_rate_limit  = 10
  }
}

resource "aws_lambda_permission" "orders" {
  action        = "lambda:InvokeFunction"
  function_name = module.producer.name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.orders.execution_arn}/*/POST/orders"
}

# === The consumer ===

module "consumer" {
  source             = "./function"
  name               = "${var.name}-consumer"
  zip                = var.function_zips.consumer
  service_name       = "orders-consumer"
  architecture       = var.architecture
  layer_arn          = aws_lambda_layer_version.throughline.arn
  timeout_seconds    = local.timeout_seconds
  log_retention_days = var.log_retention_days
  environment        = merge(local.extension, local.partial_batch_environment)
  statements = merge(local.reads_secret, {
    consume = { actions = local.consumes, resource = aws_sqs_queue.orders.arn }
  })
}

resource "aws_lambda_event_source_mapping" "orders" {
  event_source_arn        = aws_sqs_queue.orders.arn
  function_name           = module.consumer.arn
  batch_size              = 10
  function_response_types = local.partial_batch_responses
}

# === The dead-letter queue's consumer ===

module "dead_letters" {
  source             = "./function"
  name               = "${var.name}-dead-letters"
  zip                = var.function_zips.dead_letters
  service_name       = "orders-dead-letters"
  architecture       = var.architecture
  layer_arn          = aws_lambda_layer_version.throughline.arn
  timeout_seconds    = local.timeout_seconds
  log_retention_days = var.log_retention_days
  environment        = merge(local.extension, local.partial_batch_environment)
  statements = merge(local.reads_secret, {
    consume = { actions = local.consumes, resource = aws_sqs_queue.dead_letters.arn }
  })
}

resource "aws_lambda_event_source_mapping" "dead_letters" {
  event_source_arn        = aws_sqs_queue.dead_letters.arn
  function_name           = module.dead_letters.arn
  batch_size              = 10
  enabled                 = var.dead_letter_consumer
  function_response_types = local.partial_batch_responses
}
