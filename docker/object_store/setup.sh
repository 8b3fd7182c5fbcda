#!/bin/sh
# The account that everything works with, and the bucket, which is its own. Safe at every start; a secret that was changed
# in .env is changed here too.
set -eu
export ADMIN_ACCESS_KEY_ID="$ROOT_ACCESS_KEY_ID" ADMIN_SECRET_ACCESS_KEY="$ROOT_SECRET_ACCESS_KEY"
export ADMIN_ENDPOINT_URL="$K2_S3_ENDPOINT" ADMIN_REGION="$K2_S3_REGION"

versitygw admin create-user --access "$K2_S3_ACCESS_KEY_ID" --secret "$K2_S3_SECRET_ACCESS_KEY" --role user ||
    versitygw admin update-user --access "$K2_S3_ACCESS_KEY_ID" --secret "$K2_S3_SECRET_ACCESS_KEY"
versitygw admin list-buckets | grep -q "^$K2_S3_BUCKET " ||
    versitygw admin create-bucket --owner "$K2_S3_ACCESS_KEY_ID" --bucket "$K2_S3_BUCKET"
